"""Pauses and limits that a person sets on Prefect's pages of pools, queues and deployments, by their requests."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows import fleet
from tasks_lib import create_image_upscale_task, get_task, list_tasks, wait_for_task
from tasks_lib.queue import leases
from tests.flows.conftest import ENDED, Platform, until
from tests.flows.test_cli import unitask
from tests.flows.test_prefect_away import hang
from tests.flows.test_worker_flows import worker_run
from tests.races.sessions import row_of

POOL = "/work_pools/gpu"
UNCLAIMED_SECONDS = 2.5
"""A worker that may claim does so in a fraction of this."""


def upscale(platform: Platform) -> UUID:
    """A small task of the gpu pool."""
    (image,) = platform.images(1, 16)
    return create_image_upscale_task(project_id=platform.owner.project_id, image_url=image).task_id


def until_nothing_is_claimed(platform: Platform, seconds: float = 15) -> UUID:
    """A task that no worker has claimed for a while; the pause must take effect within `seconds`."""

    def unclaimed() -> UUID | None:
        task, end = upscale(platform), time.monotonic() + UNCLAIMED_SECONDS
        while row_of(task).status == "Pending" and time.monotonic() < end:
            time.sleep(0.1)
        return task if row_of(task).status == "Pending" else None

    return UUID(str(until(unclaimed, seconds, "the pause")))


def all_stay_unclaimed(platform: Platform) -> None:
    """At once, nothing is claimed."""
    until_nothing_is_claimed(platform, UNCLAIMED_SECONDS)


@contextmanager
def changed(platform: Platform, path: str, change: dict[str, Any], back: dict[str, Any]) -> Iterator[None]:
    """What a person changes on a page, for a while."""
    platform.api.patch(path, json=change).raise_for_status()
    try:
        yield
    finally:
        platform.api.patch(path, json=back).raise_for_status()


def paused(platform: Platform, path: str) -> Any:
    """The switch of a pool, a queue or a deployment."""
    name = "paused" if path.startswith("/deployments") else "is_paused"
    return changed(platform, path, {name: True}, {name: False})


def findings() -> tuple[bool, int, str]:
    """What `unitask status` says: whether all is ready, its exit code, and its findings."""
    done = unitask("status", "--output", "json")
    found = json.loads(done.stdout)
    return found["ready"], done.returncode, "\n".join(finding["text"] for finding in found["findings"])


def deployment_path(platform: Platform, name: str) -> str:
    """Where a deployment is in Prefect's API."""
    return f"/deployments/{platform.get(f'/deployments/name/{name}')['id']}"


@pytest.fixture
def gpu_worker(platform: Platform) -> dict[str, Any]:
    """The run of a gpu worker that claims."""
    assert wait_for_task(upscale(platform), timeout=120).status == "Complete"
    return worker_run(platform, "gpu")


def test_running_work_ends_and_nothing_new_is_claimed_when_the_pool_is_paused(
    platform: Platform, gpu_worker: dict[str, Any]
) -> None:
    slow = platform.create(2, 512, slow=True, segment_frames=81)
    until(lambda: [c for c in list_tasks(parent_task_id=slow) if c.status == "Processing"], 60, "a segment that runs")
    with paused(platform, POOL):
        segment = until(
            lambda: next((c for c in list_tasks(parent_task_id=slow) if c.status == "Complete"), None), 60, "its end"
        )
        assert segment.attempt == 1
        waiting = until_nothing_is_claimed(platform)
        assert get_task(slow).status == "Processing", "hosted orchestrators go on waiting"
        ready, code, text = findings()
        assert (ready, code) == (False, 1)
        assert "the work pool `gpu` is paused in Prefect" in text
        assert "tasks wait, the oldest for" in text
        assert "`prefect work-pool resume gpu`" in text
    assert wait_for_task(waiting, timeout=15).status == "Complete"
    assert wait_for_task(slow, timeout=120).status == "Complete"
    assert platform.get(f"/flow_runs/{gpu_worker['id']}")["state_type"] == "RUNNING", "the same worker goes on"


@pytest.mark.parametrize("control", ["queue", "deployment"])
def test_nothing_is_claimed_until_it_is_switched_on_when_queue_or_deployment_is_paused(
    platform: Platform, gpu_worker: dict[str, Any], control: str
) -> None:
    queue = platform.get(f"{POOL}/queues/workers")["id"]
    path, name = {
        "queue": (f"/work_queues/{queue}", "work queue `workers` of `gpu`"),
        "deployment": (deployment_path(platform, "gpu-worker/gpu-worker"), "deployment `gpu-worker`"),
    }[control]
    with paused(platform, path):
        waiting = until_nothing_is_claimed(platform)
        done = unitask("doctor", "--output", "json")
        wrong = "\n".join(row["text"] for row in json.loads(done.stdout) if row["what"] == "platform")
        assert (name in wrong, "1 task waits" in wrong, done.returncode) == (True, True, 1)
        assert "everything runs" not in wrong
    assert wait_for_task(waiting, timeout=15).status == "Complete"


def test_pause_holds_when_prefect_goes_away(platform: Platform, gpu_worker: dict[str, Any]) -> None:
    with paused(platform, POOL):
        until_nothing_is_claimed(platform)
        hang(lambda: all_stay_unclaimed(platform))


def test_no_worker_is_ordered_until_the_pool_is_resumed_when_its_last_one_ends_in_a_pause(
    platform: Platform, gpu_worker: dict[str, Any]
) -> None:
    open_runs = {
        "deployments": {"name": {"any_": ["gpu-worker"]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
    }
    with paused(platform, POOL):
        until_nothing_is_claimed(platform)
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        platform.post(f"/flow_runs/{gpu_worker['id']}/set_state", cancelling)
        until(lambda: platform.get(f"/flow_runs/{gpu_worker['id']}")["state_type"] in ENDED, 60, "the worker's end")
        waiting = upscale(platform)
        # What the other worker, maintenance and a create that finds nobody alive call.
        assert fleet.ensure_workers(minimum={"gpu": 1}, api_url=platform.run.prefect_api_url) == []
        assert platform.post("/flow_runs/filter", open_runs) == []
        assert "the work pool `gpu` is paused" in findings()[2]
    assert wait_for_task(waiting, timeout=90).status == "Complete"


def test_surplus_workers_end_and_backlog_waits_in_words_when_the_pool_gets_a_limit(
    platform: Platform, gpu_worker: dict[str, Any]
) -> None:
    def state_of(run: dict[str, Any]) -> tuple[str, str]:
        state = platform.get(f"/flow_runs/{run['id']}")["state"]
        return state["type"], state["message"] or ""

    deployment = platform.get("/deployments/name/gpu-worker/gpu-worker")["id"]
    second = platform.post(f"/deployments/{deployment}/create_flow_run", {})
    until(lambda: len(leases.live_workers("gpu")) == 2, 60, "a second worker, as Quick run makes it")
    none = {"concurrency_limit": None}
    with changed(platform, POOL, {"concurrency_limit": 1}, none):
        until(lambda: state_of(gpu_worker)[0] in ENDED, 30, "the end of the older")
        assert state_of(gpu_worker)[0] == "COMPLETED"
        assert "the work pool `gpu` has a limit of 1" in state_of(gpu_worker)[1]
        assert wait_for_task(upscale(platform), timeout=30).status == "Complete"
        assert state_of(second)[0] == "RUNNING"
        assert findings()[0], "a limit that keeps nothing waiting is no fault"
    with changed(platform, f"{POOL}/queues/workers", {"concurrency_limit": 0}, none):
        until(lambda: state_of(second)[0] in ENDED, 30, "the end of the last")
        waiting = upscale(platform)
        assert fleet.ensure_workers(minimum={"gpu": 1}, api_url=platform.run.prefect_api_url) == []
        ready, code, text = findings()
        assert (ready, code) == (False, 1)
        assert "the work queue `workers` of `gpu` has a limit of 0 in Prefect" in text
        assert "1 task waits" in text
    assert wait_for_task(waiting, timeout=90).status == "Complete"


def test_runs_wait_and_are_counted_until_it_is_resumed_when_the_queue_of_requests_is_paused(
    platform: Platform,
) -> None:
    deployment = platform.get("/deployments/name/maintenance/maintenance")["id"]
    with paused(platform, "/work_pools/api/queues/requests"):
        run = platform.post(f"/deployments/{deployment}/create_flow_run", {})
        text = str(until(lambda: "the oldest for" in (t := findings()[2]) and t, 30, "the waiting run"))
        assert "the work queue `requests` of `api` is paused in Prefect" in text
        assert "`prefect work-queue resume requests --pool api`" in text
        assert platform.get(f"/flow_runs/{run['id']}")["state_type"] == "SCHEDULED"
    until(lambda: platform.get(f"/flow_runs/{run['id']}")["state_type"] in ENDED, 90, "the run")


def test_maintenance_is_noted_when_it_or_its_schedule_is_paused(platform: Platform) -> None:
    path = deployment_path(platform, "maintenance/maintenance")
    (schedule,) = platform.get(path)["schedules"]
    with changed(platform, f"{path}/schedules/{schedule['id']}", {"active": False}, {"active": True}):
        ready, code, text = findings()
        assert (ready, code) == (True, 0)
        assert "`maintenance` has no active schedule" in text
    with paused(platform, path):
        assert "the deployment `maintenance` is paused" in findings()[2]


def test_workers_are_judged_by_heartbeats_when_database_and_prefect_are_ones_own(
    platform: Platform, gpu_worker: dict[str, Any], tmp_path: Path
) -> None:
    own = {
        "UNITASK_HOME": str(tmp_path),
        "UNITASK_DATABASE_URL": platform.run.database_url,
        "PREFECT_API_URL": platform.run.prefect_api_url,
    }
    found = json.loads(unitask("status", "--output", "json", **own).stdout)
    assert found["ready"], found
    assert set(found["processes"]) == {"postgres", "server"}
    assert found["pools"]["gpu"]["worker_flows"] == 1


def test_what_was_deleted_is_named_and_made_again_when_somebody_deleted_a_queue_and_a_deployment(
    platform: Platform, gpu_worker: dict[str, Any]
) -> None:
    platform.api.delete(f"{POOL}/queues/workers").raise_for_status()
    platform.api.delete(deployment_path(platform, "create-task/create-task")).raise_for_status()
    ready, code, text = findings()
    assert (ready, code) == (False, 1)
    assert "the deployment `gpu-worker` has no work pool; `unitask deploy` makes it" in text
    assert "the deployment `create-task` is not there; `unitask deploy` registers it" in text
    assert wait_for_task(upscale(platform), timeout=30).status == "Complete", "workers that live go on"
    done = unitask("deploy")
    assert (done.returncode, done.stderr) == (0, "")
    assert platform.get("/deployments/name/gpu-worker/gpu-worker")["work_pool_name"] == "gpu"
    assert findings()[:2] == (True, 0)
