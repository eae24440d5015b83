"""The life of worker flows: they drain, end when idle, and come back when there is work."""

from __future__ import annotations

import os
import signal
from typing import Any

from tasks_lib import cancel_task, create_task, wait_for_task
from tasks_lib.providers.simulator import Simulator
from tasks_lib.queue import leases
from tests.flows.conftest import Platform, alive, until
from tests.races.sessions import row_of


def worker_run(platform: Platform, run_type: str) -> dict[str, Any]:
    """The newest run of a pool's worker flow."""
    body = {"flows": {"name": {"any_": [f"{run_type}-worker"]}}, "sort": "START_TIME_DESC", "limit": 1}
    return dict(platform.post("/flow_runs/filter", body)[0])


def test_worker_drains_and_another_goes_on_when_it_gets_sigterm(platform: Platform) -> None:
    wait_for_task(platform.create(2), timeout=120)
    until(lambda: platform.worker_pid("gpu"), 60, "a gpu worker")
    run, pid = worker_run(platform, "gpu"), platform.worker_pid("gpu")
    task_id = platform.create(4, 128, segment_frames=41)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not alive(pid), 60, "the end of the worker")
    ended = until(
        lambda: (r := platform.get(f"/flow_runs/{run['id']}"))["state_type"] != "RUNNING" and r,
        30,
        "the end of its run",
    )
    assert ended["state_type"] == "COMPLETED"
    assert "it got SIGTERM" in ended["state"]["message"]
    task = wait_for_task(task_id, timeout=180)
    assert (task.status, task.error_message) == ("Complete", None)
    assert worker_run(platform, "gpu")["id"] != run["id"]


def test_worker_ends_its_run_and_is_summoned_again_when_it_was_asked_to_end(platform: Platform) -> None:
    wait_for_task(platform.create(2), timeout=120)
    before = worker_run(platform, "api")
    assert leases.drain_workers() >= 1
    until(lambda: platform.get(f"/flow_runs/{before['id']}")["state_type"] == "COMPLETED", 60, "the end of the worker")
    # Nobody lives: the create itself asks for workers.
    task = wait_for_task(platform.create(2), timeout=180)
    assert task.status == "Complete"
    assert worker_run(platform, "api")["id"] != before["id"]


def test_task_has_one_run_however_often_it_was_handed_back_when_its_provider_is_full(
    platform: Platform, provider: Simulator
) -> None:
    def edit(prompt: str) -> Any:
        params = {"prompt": prompt, "image_url": "https://example.com/0.jpg"}
        return create_task("magic_edit", params, project_id=platform.owner.project_id).task_id

    provider.fault("status", "never", times=1_000_000, prompt="for ever")
    slow = [edit("for ever") for _ in range(2)]
    until(lambda: {row_of(task).status for task in slow} == {"Processing"}, what="a full provider")
    waiting = edit("next")
    until(lambda: row_of(waiting).lease_id >= 3, what="the third claim")
    for task in slow:
        cancel_task(task)
    assert wait_for_task(waiting, timeout=60).status == "Complete"
    shown = {"task_runs": {"name": {"any_": [f"magic_edit {str(waiting)[:8]}"]}}}

    def states() -> list[str]:
        return [run["state_type"] for run in platform.post("/task_runs/filter", shown)]

    until(lambda: "COMPLETED" in states(), 30, "its run")
    assert states() == ["COMPLETED"]
