"""The answer to a create that finds no worker alive; see tasks_lib/queue/summon.py."""

from __future__ import annotations

import os
from collections.abc import Sequence

from deployments.state import state
from flows import fleet


def start_missing_workers(run_types: Sequence[str]) -> list[str]:
    """Start worker flows for some pools on the Prefect server that is set or that runs here; their names."""
    run = state()
    api_url = os.environ.get("PREFECT_API_URL") or (run.prefect_api_url if run and run.ready else None)
    return fleet.ensure_workers(run_types, api_url=api_url) if api_url else []
