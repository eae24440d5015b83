"""Fifty travels on one slot, and travels whose workers are killed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from uuid import UUID

import pytest

from tasks_lib import create_tasks, get_task, list_tasks, wait_for_task
from tests.flows.conftest import Platform, alive, until


def test_all_travels_finish_when_fifty_share_one_gpu_slot(platform: Platform) -> None:
    params = platform.request(2)
    project_id = params.pop("project_id")
    request = {"task_type": "travel_orchestrator", "params": params, "project_id": project_id}
    created = create_tasks([request] * 50)
    statuses = Counter(wait_for_task(answer.task_id, timeout=280).status for answer in created)
    assert statuses == {"Complete": 50}


# The api worker's successor takes a while to start, and the travel must not be over before.
@pytest.mark.parametrize(("run_type", "images"), [("gpu", 4), ("api", 14)])
def test_video_comes_out_once_when_a_worker_is_killed(platform: Platform, run_type: str, images: int) -> None:
    task_id = platform.create(images, 512, slow=run_type == "api", segment_frames=81)
    until(lambda: "Processing" in _children(task_id).values(), what="the start of a segment")
    run_before = until(lambda: get_task(task_id).flow_run_id, what="the run of the travel")
    pid = platform.worker_pid(run_type)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), 10, "the end of the process")

    task = wait_for_task(task_id, timeout=180)
    assert (task.status, task.error_message) == ("Complete", None)
    assert Counter(_keys(task_id)) == {"stitch": 1, **{f"segment_{i:03d}": 1 for i in range(images - 1)}}
    if run_type == "api":
        until(lambda: get_task(task_id).flow_run_id != run_before, 60, "the run of the next host")
        task = get_task(task_id)
        assert task.attempt == 1, "hosting again is no new attempt"
    until(lambda: platform.get(f"/flow_runs/{task.flow_run_id}")["state_type"] == "COMPLETED", 60, "the run's end")
    if run_type == "api":
        old = until(
            lambda: (r := platform.get(f"/flow_runs/{run_before}"))["state_type"] == "CRASHED" and r, 30, "its closing"
        )
        assert f"goes on in {platform.run.prefect_ui_url}/runs/flow-run/{task.flow_run_id}" in old["state"]["message"]


def _children(task_id: UUID) -> dict[str | None, str]:
    return {child.child_key: child.status for child in list_tasks(parent_task_id=task_id)}


def _keys(task_id: UUID) -> list[str | None]:
    return [child.child_key for child in list_tasks(parent_task_id=task_id)]
