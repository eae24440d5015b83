"""States that a person gives to a run by hand, in the dialogs *Change state* and *Pause*, as the UI sends them."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_lib import get_task, wait_for_task
from tests.flows.conftest import Platform, alive, until
from tests.flows.test_pool_controls import upscale
from tests.flows.test_worker_flows import worker_run


def set_state(platform: Platform, run_id: Any, kind: str, name: str) -> None:
    """Give a run a state, as a dialog of the UI does."""
    platform.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": kind, "name": name}, "force": True})


def state_of(platform: Platform, run_id: Any) -> tuple[str, str]:
    """A run's state and its message."""
    state = platform.get(f"/flow_runs/{run_id}")["state"]
    return state["type"], state["message"] or ""


@pytest.mark.parametrize("kind", ["COMPLETED", "FAILED"])
def test_run_of_a_travel_goes_on_and_says_why_when_it_is_ended_by_hand(platform: Platform, kind: str) -> None:
    slow = platform.create(2, 512, slow=True, segment_frames=81)
    run_id = until(lambda: get_task(slow).flow_run_id, 60, "its run")
    until(lambda: state_of(platform, run_id)[0] == "RUNNING", 30, "its start")
    set_state(platform, run_id, kind, kind.capitalize())
    message = "its task goes on: cancel the run, or let it end"
    until(lambda: state_of(platform, run_id) == ("RUNNING", message), 15, "its word")
    assert wait_for_task(slow, timeout=120).status == "Complete"
    until(lambda: state_of(platform, run_id)[0] == "COMPLETED", 30, "its end")


def test_worker_says_what_can_be_paused_when_its_own_run_is(platform: Platform) -> None:
    assert wait_for_task(upscale(platform), timeout=120).status == "Complete"
    run = worker_run(platform, "gpu")
    set_state(platform, run["id"], "PAUSED", "Suspended")
    _, message = until(lambda: (s := state_of(platform, run["id"]))[0] == "RUNNING" and s, 15, "its word")
    assert "pause its work pool" in message
    assert wait_for_task(upscale(platform), timeout=30).status == "Complete"


@pytest.mark.parametrize("how", ["ended", "deleted"])
def test_worker_ends_when_its_run_is_ended_or_deleted(platform: Platform, how: str) -> None:
    assert wait_for_task(upscale(platform), timeout=120).status == "Complete"
    run, pid = worker_run(platform, "gpu"), platform.worker_pid("gpu")
    if how == "ended":
        set_state(platform, run["id"], "COMPLETED", "Completed")
    else:
        platform.api.delete(f"/flow_runs/{run['id']}").raise_for_status()
    until(lambda: not alive(pid), 30, "the worker's end")
    assert wait_for_task(upscale(platform), timeout=90).status == "Complete"
