"""What people click at a run in Prefect's UI, by the requests that its buttons send: Cancel, Retry, Delete, Pause."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import Task, database, get_task, list_tasks, retry_task, upload_media, wait_for_task
from tests.flows.conftest import ENDED, Platform, until
from tests.races.sessions import check_ledger

TRAVEL = "travel_orchestrator"
TRAVELS = f"{TRAVEL}/travel-orchestrator"
CANCEL = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
RETRY = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}, "force": True}
PAUSE = {
    "state": {
        "type": "PAUSED",
        "name": "Suspended",
        "state_details": {"pause_timeout": None, "pause_reschedule": True},
    },
    "force": True,
}
CANCELLED = "cancelled in the Prefect UI"


@pytest.fixture(scope="module")
def block(platform: Platform) -> str:
    """The name of a Secret block with the caller's token."""
    name = f"controls-{uuid4().hex[:8]}"
    platform.save_secret(name, platform.owner.token)
    return name


def slow(platform: Platform) -> dict[str, Any]:
    """A travel that is at work for a while."""
    return platform.request(4, 1024, slow=True, segment_frames=81)


def trigger(platform: Platform, deployment: str, parameters: dict[str, Any]) -> str:
    """Run a deployment as the UI does; its run's id."""
    found = platform.get(f"/deployments/name/{deployment}")["id"]
    return str(platform.post(f"/deployments/{found}/create_flow_run", {"parameters": parameters})["id"])


def of_run(run_id: str) -> list[Task]:
    """The tasks that a run has made."""
    t = tables.tasks
    with database.transaction() as connection:
        ids = connection.scalars(sa.select(t.c.id).where(t.c.made_by_run_id == UUID(run_id))).all()
    return [get_task(task_id) for task_id in ids]


def run_state(platform: Platform, run_id: Any) -> str:
    return str(platform.get(f"/flow_runs/{run_id}")["state_type"])


def states_of(platform: Platform, run_id: Any) -> list[str]:
    """The names of all states that a run has had."""
    return [
        state["name"] for state in platform.api.get("/flow_run_states/", params={"flow_run_id": str(run_id)}).json()
    ]


def nodes(platform: Platform, run_id: Any) -> Counter[str]:
    """The last states of a run's children, as its graph shows them."""
    return Counter(
        node["state_type"] for node in platform.graph(run_id).values() if node["label"].startswith("travel_")
    )


def settled(platform: Platform, run_id: Any, state: str, seconds: float = 30) -> None:
    """Wait until a run is in that state, and all its nodes have ended."""
    until(lambda: run_state(platform, run_id) == state, seconds, f"{state} of the run")
    until(lambda: set(nodes(platform, run_id)) <= ENDED, 15, "the end of its nodes")


def check_cancelled(platform: Platform, task_id: UUID, run_id: Any) -> None:
    """Row, children, holds, run and nodes are Cancelled, or were Complete before."""
    task = wait_for_task(task_id, timeout=15)
    assert (task.status, task.error_message) == ("Cancelled", CANCELLED)
    children = list_tasks(parent_task_id=task_id)
    assert {child.status for child in children} <= {"Cancelled", "Complete"}
    settled(platform, run_id, "CANCELLED", 15)
    assert set(nodes(platform, run_id)) <= {"CANCELLED", "COMPLETED"}
    ledger = tables.credit_ledger
    with database.transaction() as connection:
        held = connection.scalar(
            sa.select(sa.func.coalesce(sa.func.sum(ledger.c.amount), 0)).where(ledger.c.task_id == task_id)
        )
    assert held == 0
    check_ledger()


def working(task_id: UUID) -> bool:
    return any(child.status == "Processing" for child in list_tasks(parent_task_id=task_id))


def test_all_is_cancelled_when_the_run_of_a_triggered_travel_is_cancelled(platform: Platform, block: str) -> None:
    run_id = trigger(platform, TRAVELS, {"request": slow(platform), "token_block": block})
    (task,) = until(lambda: of_run(run_id), what="the task of the run")
    until(lambda: working(task.id), what="the start of a segment")
    platform.post(f"/flow_runs/{run_id}/set_state", CANCEL)
    check_cancelled(platform, task.id, run_id)


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED"])
@pytest.mark.parametrize("stage", ["row", "node"])
def test_all_is_cancelled_when_a_triggered_travel_is_cancelled_early(
    platform: Platform, block: str, state: str, stage: str
) -> None:
    """As soon as there is a row, when its run may not have planted anything, and when its first node is there."""
    run_id = trigger(platform, TRAVELS, {"request": slow(platform), "token_block": block})
    (task,) = until(lambda: of_run(run_id), what="the task of the run")
    if stage == "node":
        until(lambda: nodes(platform, run_id), what="the first node")
    platform.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": state}, "force": True})
    check_cancelled(platform, task.id, run_id)


def test_nothing_is_made_when_a_run_is_cancelled_before_it_starts(platform: Platform, block: str) -> None:
    run_id = trigger(platform, TRAVELS, {"request": slow(platform), "token_block": block})
    platform.post(f"/flow_runs/{run_id}/set_state", CANCEL)
    until(lambda: run_state(platform, run_id) == "CANCELLED", 30, "the end of the run")
    assert of_run(run_id) == []


def test_row_is_cancelled_when_the_process_of_a_cancelled_run_is_gone(platform: Platform, block: str) -> None:
    """The worker of Prefect that would have ended it died; nobody can ask its process."""
    run_id = trigger(platform, TRAVELS, {"request": slow(platform), "token_block": block})
    (task,) = until(lambda: of_run(run_id), what="the task of the run")
    until(lambda: working(task.id), what="the start of a segment")
    process_of(platform, run_id).kill()
    platform.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert wait_for_task(task.id, timeout=15).status == "Cancelled"


def test_task_is_cancelled_when_its_create_task_run_is_cancelled_at_once(platform: Platform, block: str) -> None:
    params = slow(platform)
    request = {"task_type": TRAVEL, "project_id": params.pop("project_id"), "params": params}
    run_id = trigger(platform, "create-task/create-task", {"request": request, "token_block": block})
    (task,) = until(lambda: of_run(run_id), what="the task of the run")
    # Whether its process has ended by now or not.
    platform.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert wait_for_task(task.id, timeout=15).status == "Cancelled"
    until(lambda: run_state(platform, run_id) == "CANCELLED", 30, "the end of the run")


def test_run_says_so_when_it_is_cancelled_after_the_film_is_there(platform: Platform) -> None:
    task = wait_for_task(platform.create(2), timeout=120)
    until(lambda: run_state(platform, task.flow_run_id) == "COMPLETED", 30, "the end of the run")
    platform.post(f"/flow_runs/{task.flow_run_id}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    run = until(
        lambda: (r := platform.get(f"/flow_runs/{task.flow_run_id}"))["state_type"] == "COMPLETED" and r,
        30,
        "the truth",
    )
    assert "had ended before" in run["state"]["message"]
    assert get_task(task.id).status == "Complete"


def test_run_of_a_travel_has_buttons_when_the_library_made_it(platform: Platform) -> None:
    """What the UI asks for before it offers Cancel, Retry and Pause."""
    task_id = platform.create(4, 1024, slow=True, segment_frames=81)
    run_id = until(lambda: get_task(task_id).flow_run_id, what="the run of the travel")
    run = platform.get(f"/flow_runs/{run_id}")
    assert run["parent_task_run_id"] is None
    assert run["deployment_id"] == platform.get(f"/deployments/name/{TRAVELS}")["id"]
    assert run["work_queue_id"] is None, "it takes no slot of the requests"

    until(lambda: nodes(platform, run_id), what="the nodes")
    platform.post(f"/flow_runs/{run_id}/set_state", PAUSE)
    running = until(lambda: (r := platform.get(f"/flow_runs/{run_id}"))["state_type"] == "RUNNING" and r, 10, "a word")
    assert "pause the work pool" in running["state"]["message"]

    platform.post(f"/flow_runs/{run_id}/set_state", CANCEL)
    check_cancelled(platform, task_id, run_id)
    assert get_task(task_id).flow_run_id == run_id

    platform.post(f"/flow_runs/{run_id}/set_state", RETRY)
    until(lambda: get_task(task_id).status == "Processing", 30, "the next host")
    until(lambda: run_state(platform, run_id) == "RUNNING", 10, "the same run")
    assert get_task(task_id).flow_run_id == run_id
    platform.post(f"/flow_runs/{run_id}/set_state", CANCEL)
    check_cancelled(platform, task_id, run_id)


def test_task_is_shown_again_when_its_run_is_deleted(platform: Platform) -> None:
    task_id = platform.create(4, 512, slow=True, segment_frames=41)
    deleted = until(lambda: get_task(task_id).flow_run_id, what="the run of the travel")
    until(lambda: nodes(platform, deleted), what="its nodes")
    platform.api.delete(f"/flow_runs/{deleted}").raise_for_status()
    run_id = until(lambda: (r := get_task(task_id).flow_run_id) != deleted and r, 20, "another run")
    assert wait_for_task(task_id, timeout=120).status == "Complete"
    settled(platform, run_id, "COMPLETED")
    until(lambda: nodes(platform, run_id) == {"COMPLETED": 4}, 20, "the last node")


class Pictures:
    """A web server of a folder; what is not there yet answers 404."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server's address, and the folder that it shows."""
    pictures = Pictures(tmp_path)
    yield pictures.url, tmp_path
    pictures.server.shutdown()
    pictures.server.server_close()


def by_the_library(platform: Platform, request: dict[str, Any], block: str) -> str:
    task_id = platform.create(**{"count": 2, **request})
    return str(until(lambda: get_task(task_id).flow_run_id, what="the run of the travel"))


def by_the_deployment(platform: Platform, request: dict[str, Any], block: str) -> str:
    return trigger(platform, TRAVELS, {"request": request, "token_block": block})


@pytest.mark.parametrize("door", [by_the_deployment, by_the_library])
def test_travel_goes_on_when_its_failed_run_is_tried_again_in_the_ui(
    platform: Platform, block: str, pictures: tuple[str, Path], door: Callable[..., str]
) -> None:
    """The last of four pictures is missing at first. What was made well is neither made nor paid for again."""
    url, folder = pictures
    files = platform.pictures(4)
    for path in files[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    request = platform.request(2) | {"image_urls": [f"{url}/{path.name}" for path in files]}
    before = {task.id for task in list_tasks(task_type=TRAVEL, limit=1000)}
    run_id = door(platform, request, block)
    run = until(lambda: (r := platform.get(f"/flow_runs/{run_id}"))["state_type"] in ENDED and r, 120, "the failure")
    assert run["state_type"] == "FAILED", run["state"]
    (task_id,) = {task.id for task in list_tasks(task_type=TRAVEL, limit=1000)} - before
    assert str(get_task(task_id).flow_run_id) == run_id
    good = {child.id for child in list_tasks(parent_task_id=task_id) if child.status == "Complete"}
    assert len(good) == 2

    (folder / files[3].name).write_bytes(files[3].read_bytes())
    platform.post(f"/flow_runs/{run_id}/set_state", RETRY)
    assert wait_until_complete(task_id)
    settled(platform, run_id, "COMPLETED")
    assert {task.id for task in list_tasks(task_type=TRAVEL, limit=1000)} - before == {task_id}
    assert str(get_task(task_id).flow_run_id) == run_id
    until(lambda: nodes(platform, run_id) == {"COMPLETED": 4}, 20, "the last node")
    names = states_of(platform, run_id)
    after = names[names.index("AwaitingRetry") :]
    assert set(after) <= {"AwaitingRetry", "Pending", "Submitting", "InfrastructurePending", "Running", "Completed"}
    assert [name for name in after if name in ("Running", "Completed")] == ["Running", "Completed"], after
    ledger = tables.credit_ledger
    with database.transaction() as connection:
        paid = Counter(
            connection.scalars(
                sa.select(ledger.c.task_id).where(ledger.c.task_id.in_(good), ledger.c.kind == "capture")
            )
        )
    assert set(paid.values()) <= {1}
    assert all(get_task(child).attempt == 1 for child in good)
    check_ledger()


def wait_until_complete(task_id: UUID) -> Any:
    return until(lambda: get_task(task_id).status == "Complete", 120, "the film")


def test_same_run_goes_on_when_a_task_is_retried_by_the_library(platform: Platform) -> None:
    task_id = platform.create(4, 512, slow=True, segment_frames=41)
    run_id = until(lambda: get_task(task_id).flow_run_id, what="the run of the travel")
    until(lambda: nodes(platform, run_id), what="the nodes")
    platform.post(f"/flow_runs/{run_id}/set_state", CANCEL)
    check_cancelled(platform, task_id, run_id)
    retry_task(task_id)
    wait_until_complete(task_id)
    settled(platform, get_task(task_id).flow_run_id, "COMPLETED")
    assert get_task(task_id).flow_run_id == run_id


def process_of(platform: Platform, run_id: str) -> psutil.Process:
    """The process that Prefect's worker has started for a run."""
    pid = until(lambda: platform.get(f"/flow_runs/{run_id}")["infrastructure_pid"], 20, "the process")
    return psutil.Process(int(str(pid).rpartition(":")[2]))


def test_run_goes_on_at_another_host_when_its_process_is_asked_to_end(platform: Platform, block: str) -> None:
    """As `unitask down` does it."""
    request = platform.request(4, 512, slow=True, segment_frames=41)
    run_id = trigger(platform, TRAVELS, {"request": request, "token_block": block})
    (task,) = until(lambda: of_run(run_id), what="the task of the run")
    until(lambda: nodes(platform, run_id), what="its nodes")
    process = process_of(platform, run_id)
    os.kill(process.pid, signal.SIGTERM)
    process.wait(20)
    wait_until_complete(task.id)
    settled(platform, run_id, "COMPLETED")
    assert str(get_task(task.id).flow_run_id) == run_id
    assert not {"Crashed", "Failed", "Cancelled"} & set(states_of(platform, run_id))
    until(lambda: nodes(platform, run_id) == {"COMPLETED": 4}, 20, "the last node")
    history = platform.api.get("/flow_run_states/", params={"flow_run_id": run_id}).json()
    assert "its host ends; another worker goes on" in [state["message"] for state in history]


def test_create_task_run_makes_one_task_when_it_is_tried_again(platform: Platform, block: str) -> None:
    broken = platform.folder / "broken-again.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n, and then no picture")
    params = platform.request(2)
    params["image_urls"] = [params["image_urls"][0], upload_media(broken, project_id=platform.owner.project_id)]
    request = {"task_type": TRAVEL, "project_id": params.pop("project_id"), "params": params}
    run_id = trigger(platform, "create-task/create-task", {"request": request, "token_block": block})
    until(lambda: run_state(platform, run_id) == "COMPLETED", what="the end of the run")
    (task,) = of_run(run_id)
    assert wait_for_task(task.id, timeout=120).status == "Failed"
    platform.post(f"/flow_runs/{run_id}/set_state", RETRY)
    until(lambda: states_of(platform, run_id).count("Completed") == 2, what="the second end of the run")
    (again,) = of_run(run_id)
    assert again.id == task.id
    with database.transaction() as connection:
        t = tables.tasks
        assert connection.scalar(sa.select(t.c.retries).where(t.c.id == task.id)) == 1
    wait_for_task(task.id, timeout=120)
