"""Prefect's server away while there is work: workers claim and complete all the same, and its picture becomes true."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import pytest

from deployments.state import state
from tasks_lib import get_task, list_tasks, wait_for_task
from tests.flows.conftest import Platform, alive, until

# `make kills` takes the minute that the promise names.
AWAY_SECONDS = float(os.environ.get("UNITASK_TEST_AWAY_SECONDS", "6"))


def server_pid() -> int:
    """The process of Prefect's server."""
    run = state()
    assert run is not None
    return run.pids["server"]


def hang(during: Callable[[], None]) -> None:
    """The server takes connections and never answers."""
    pid, end = server_pid(), time.monotonic() + AWAY_SECONDS
    os.kill(pid, signal.SIGSTOP)
    try:
        during()
        until(lambda: time.monotonic() > end)
    finally:
        os.kill(pid, signal.SIGCONT)


def die(during: Callable[[], None]) -> None:
    """The server is killed, again and again: its supervisor brings it back."""
    end = time.monotonic() + AWAY_SECONDS
    os.kill(server_pid(), signal.SIGKILL)
    during()
    while time.monotonic() < end:
        with suppress(ProcessLookupError):
            os.kill(server_pid(), signal.SIGKILL)
        time.sleep(1)


@pytest.mark.parametrize("away", [hang, die])
def test_work_goes_on_and_is_shown_afterwards_when_prefect_is_away(
    platform: Platform, away: Callable[[Callable[[], None]], None]
) -> None:
    workers = {run_type: until(lambda: platform.worker_pid(run_type), 60) for run_type in ("gpu", "api")}  # noqa: B023
    before = platform.create(4, 256, segment_frames=41)
    before_run = until(lambda: get_task(before).flow_run_id, what="the run of the travel")
    during: list[UUID] = []

    def work() -> None:
        begun = time.monotonic()
        while len(during) < 2 or time.monotonic() < begun + AWAY_SECONDS:
            during.append(platform.create(2))
            assert wait_for_task(during[-1], timeout=60).status == "Complete"
        assert wait_for_task(before, timeout=120).status == "Complete"

    away(work)
    attempts = [child.attempt for parent in (before, *during) for child in list_tasks(parent_task_id=parent)]
    assert set(attempts) == {1}
    assert all(alive(pid) for pid in workers.values()), "no worker gave up"
    until(lambda: platform.get(f"/flow_runs/{before_run}")["state_type"] == "COMPLETED", 120, "the end of the run")
    after = platform.create(2)
    run_id = until(lambda: get_task(after).flow_run_id, what="the run of a travel that came afterwards")
    until(lambda: platform.get(f"/flow_runs/{run_id}")["state_type"] == "COMPLETED", 60, "its end")
