"""What people see of a travel in Prefect, and what its two doors do."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from uuid import UUID

from tasks_lib import create_task, get_task, list_tasks, storage, upload_media, wait_for_task
from tasks_lib.media.video import probe
from tests.flows.conftest import Platform, run_prefect, until

TRAVEL = "travel_orchestrator"


def closed_graph(platform: Platform, flow_run_id: UUID | str, nodes: int) -> list[dict[str, Any]]:
    """The graph once Prefect has recorded the end of all its nodes, which lags a moment behind."""

    def complete() -> Any:
        found = list(platform.graph(flow_run_id).values())
        ended = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
        return len(found) == nodes and all(node["state_type"] in ended for node in found) and found

    return list(until(complete, 30, "the end of the graph"))


def test_run_shows_the_travel_as_a_graph_when_it_is_done(platform: Platform) -> None:
    task = wait_for_task(platform.create(4), timeout=120)
    assert (task.status, task.error_message) == ("Complete", None)
    assert task.flow_run_id is not None
    until(lambda: platform.get(f"/flow_runs/{task.flow_run_id}")["state_type"] == "COMPLETED", what="the run's end")

    nodes = closed_graph(platform, task.flow_run_id, 4)
    segments = [node for node in nodes if node["label"].startswith("travel_segment")]
    (stitch,) = [node for node in nodes if node["label"].startswith("travel_stitch")]
    assert len(segments) == 3
    assert {node["state_type"] for node in nodes} == {"COMPLETED"}
    assert {parent["id"] for parent in stitch["parents"]} == {node["id"] for node in segments}

    run = platform.get(f"/flow_runs/{task.flow_run_id}")
    assert run["name"] == f"{TRAVEL} {str(task.id)[:8]}"
    assert set(run["tags"]) == {TRAVEL, f"project:{platform.owner.project_id}"}
    artifacts = platform.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [str(task.flow_run_id)]}}})
    assert {"progress", "image", "markdown"} <= {artifact["type"] for artifact in artifacts}
    assert any(storage.url(task.output_location or "") in str(artifact["data"]) for artifact in artifacts)
    assert [artifact["data"] for artifact in artifacts if artifact["type"] == "progress"] == [100]


def test_gpu_worker_run_lists_the_executions_when_a_travel_is_done(platform: Platform) -> None:
    task = wait_for_task(platform.create(3), timeout=120)
    children = {f"{child.task_type} {str(child.id)[:8]}": child for child in list_tasks(parent_task_id=task.id)}
    names = {"task_runs": {"name": {"any_": list(children)}}}

    def recorded() -> Any:
        runs = platform.post("/task_runs/filter", names)
        return len(runs) == 3 and all(run["state_type"] == "COMPLETED" for run in runs) and runs

    for run in until(recorded, 30, "the record of the executions"):
        child = children[run["name"]]
        assert str(child.task_run_id) == run["id"]
        assert platform.get(f"/flow_runs/{run['flow_run_id']}")["name"]
        assert set(run["tags"]) == {child.task_type, f"project:{platform.owner.project_id}"}
        of_run = {"artifacts": {"task_run_id": {"any_": [run["id"]]}}}
        notes = until(partial(platform.post, "/artifacts/filter", of_run), 30, "the link to the orchestrator")
        assert f"runs/flow-run/{task.flow_run_id}" in notes[0]["data"]


def test_run_fails_with_the_reason_when_an_image_is_broken(platform: Platform) -> None:
    broken = platform.folder / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n, and then no picture")
    images = [*platform.images(2), upload_media(broken, project_id=platform.owner.project_id)]
    task = wait_for_task(platform.create(3, image_urls=images), timeout=120)
    assert task.status == "Failed"
    assert task.error_message is not None
    run = until(
        lambda: (r := platform.get(f"/flow_runs/{task.flow_run_id}"))["state_type"] == "FAILED" and r, 30, "the failure"
    )
    assert run["state"]["message"] == task.error_message
    states = {node["label"].split()[0]: node["state_type"] for node in closed_graph(platform, str(task.flow_run_id), 3)}
    assert states["travel_stitch"] == "FAILED"


def test_row_is_cancelled_when_its_run_is_cancelled_in_the_ui(platform: Platform) -> None:
    task_id = platform.create(4, 1024, slow=True, segment_frames=81)
    run_id = until(lambda: get_task(task_id).flow_run_id, what="the run of the travel")
    platform.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    task = wait_for_task(task_id, timeout=30)
    assert (task.status, task.error_message) == ("Cancelled", "cancelled in the Prefect UI")
    assert {child.status for child in list_tasks(parent_task_id=task_id)} <= {"Cancelled", "Complete"}
    until(lambda: platform.get(f"/flow_runs/{run_id}")["state_type"] == "CANCELLED", 30, "the end of the run")


def test_one_segment_is_cancelled_when_its_task_run_is_cancelled_in_the_ui(platform: Platform) -> None:
    """The run of the work itself: its travel fails for it, and says why."""
    task_id = platform.create(2, 2048, slow=True, segment_frames=81)
    segment = until(
        lambda: next((t for t in list_tasks(parent_task_id=task_id) if t.status == "Processing"), None), what="a start"
    )
    run_id = until(lambda: get_task(segment.id).task_run_id, what="the run of the segment")
    until(lambda: platform.api.get(f"/task_runs/{run_id}").is_success, 30, "the record of the run")
    platform.post(f"/task_runs/{run_id}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert (wait_for_task(segment.id, timeout=30).status) == "Cancelled"
    cancelled = get_task(segment.id)
    assert cancelled.error_message == "cancelled in the Prefect UI"
    travel = wait_for_task(task_id, timeout=120)
    assert travel.status == "Failed"
    assert "cancelled in the Prefect UI" in (travel.error_message or "")
    until(lambda: platform.get(f"/task_runs/{run_id}")["state_type"] == "CANCELLED", 30, "the end of the run")


def test_deployment_makes_a_travel_when_it_is_triggered(platform: Platform) -> None:
    request = platform.request(3)
    wrong = {**request, "segment_frames": 4}
    code = f"""
import json
from prefect.blocks.system import Secret
from prefect.deployments import run_deployment
Secret(value={platform.owner.token!r}).save("unitask-token", overwrite=True)
name = "travel_orchestrator/travel-orchestrator"
runs = [run_deployment(name, parameters={{"request": r, "idempotency_key": k}}, timeout=0, as_subflow=False)
        for r, k in (({request!r}, "door"), ({wrong!r}, None))]
print(json.dumps([str(run.id) for run in runs]))
"""
    good, bad = run_prefect(platform, code)
    final = {"COMPLETED", "FAILED", "CRASHED"}

    def ended(run_id: str) -> dict[str, Any]:
        return dict(
            until(lambda: (r := platform.get(f"/flow_runs/{run_id}"))["state_type"] in final and r, 120, "its end")
        )

    run = ended(good)
    (task,) = [item for item in list_tasks(task_type=TRAVEL) if str(item.flow_run_id) == good]
    assert (task.status, task.attempt) == ("Complete", 1)
    assert run["state_type"] == "COMPLETED"
    assert run["state"]["message"] == f"task {task.id} is Complete: {task.output_url}"
    labels = {node["label"].split()[0].split("-")[0] for node in closed_graph(platform, good, 6)}
    assert {"validate_request", "authorise", "travel_segment", "travel_stitch"} <= labels
    film = platform.folder / "door.mp4"
    assert task.output_location is not None
    storage.fetch(task.output_location, film)
    assert probe(film).frames == 9

    run = ended(bad)
    assert run["state_type"] == "FAILED"
    assert "segment_frames" in run["state"]["message"]
    assert platform.owner.token not in json.dumps([platform.get(f"/flow_runs/{run_id}") for run_id in (good, bad)])


def test_create_task_deployment_answers_the_id_when_the_request_is_good(platform: Platform) -> None:
    params = platform.request(2)
    project_id = params.pop("project_id")
    request = {"task_type": TRAVEL, "project_id": project_id, "params": params, "idempotency_key": "by deployment"}
    code = f"""
import json
from prefect.blocks.system import Secret
from prefect.deployments import run_deployment
Secret(value={platform.owner.token!r}).save("unitask-token", overwrite=True)
run = run_deployment("create-task/create-task", parameters={{"request": {request!r}}}, timeout=90, as_subflow=False)
print(json.dumps([run.state.type.value, run.state.message]))
"""
    state, message = run_prefect(platform, code)
    assert state == "COMPLETED", message
    again = create_task(TRAVEL, params, project_id=project_id, idempotency_key="by deployment")
    assert not again.created
    assert wait_for_task(again.task_id, timeout=120).status == "Complete"
