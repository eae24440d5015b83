"""The answer to whoever asks why a task waits: what people have set in Prefect; see tasks_lib/waiting.py."""

from __future__ import annotations

import os
from collections.abc import Iterable

import httpx

from deployments.state import state
from flows import api
from flows.controls import Controls, read_controls

ANSWER_SECONDS = 2


def read_pauses(run_types: Iterable[str]) -> dict[str, str]:
    """Return what holds back the work of each of these pools; nothing where none does, or Prefect does not answer."""
    run = state()
    api_url = os.environ.get("PREFECT_API_URL") or (run.prefect_api_url if run and run.ready else None)
    if not api_url:
        return {}
    try:
        with api.client(api_url, ANSWER_SECONDS) as client:
            told = {run_type: _told(read_controls(client, run_type)) for run_type in run_types}
    except httpx.HTTPError:
        return {}
    return {run_type: text for run_type, text in told.items() if text}


def _told(controls: Controls) -> str:
    if controls.paused:
        what, remedy = next(iter(controls.paused.items()))
        return f"the {what} is paused in Prefect: {remedy}"
    return f"the {controls.limited_by} has a limit of 0 in Prefect" if controls.limit == 0 else controls.missing
