"""The scheduled batch on a real platform: created once for each time, with a report that names what was refused."""

from __future__ import annotations

import json
from typing import Any

from tasks_lib import list_tasks
from tasks_lib.auth.sealing import seal
from tasks_lib.templates import create_template
from tests.flows.conftest import Platform, run_prefect


def run_batch(platform: Platform, parameters: dict[str, Any], scheduled: str) -> tuple[str, str, str]:
    """A run of the deployment as its schedule would make it for a time: its id, final state and message."""
    code = f"""
import json
from datetime import datetime
from prefect.blocks.system import Secret
from prefect.deployments import run_deployment
Secret(value={platform.owner.token!r}).save("unitask-token", overwrite=True)
run = run_deployment("scheduled-batch/scheduled-batch", parameters={parameters!r}, timeout=90, as_subflow=False,
                     scheduled_time=datetime.fromisoformat({scheduled!r}))
print(json.dumps([str(run.id), run.state.type.value, run.state.message]))
"""
    run_id, state, message = run_prefect(platform, code)
    return run_id, state, message


def test_batch_is_created_once_when_its_time_comes_twice(platform: Platform) -> None:
    project_id = str(platform.owner.project_id)
    create_template("batch of tests", "single_image", {"steps": 4}, project_id=project_id)
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "", "seed": -1}]
    parameters = {"project_id": project_id, "template": "batch of tests", "items": rows}

    run_id, state, message = run_batch(platform, parameters, "2026-01-01T03:00:00+00:00")
    assert (state, message) == ("COMPLETED", "2 created, 0 already there, 1 refused")
    artifacts = platform.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    (report,) = [artifact["data"] for artifact in artifacts if artifact["type"] == "markdown"]
    assert "| 2 | seed |" in report
    assert "`prompt`: must not be empty" in report
    assert platform.owner.token not in json.dumps([platform.get(f"/flow_runs/{run_id}"), artifacts])

    _, state, message = run_batch(platform, parameters, "2026-01-01T03:00:00+00:00")
    assert (state, message) == ("COMPLETED", "0 created, 2 already there, 1 refused")
    # Another occasion: somebody runs it by hand, with their own token.
    request = parameters | {"items_url": None, "images": None, "images_field": "image_url"}
    sealed = parameters | {"sealed_token": seal(platform.owner.token, request)}
    by_hand = platform.run_deployment("scheduled-batch/scheduled-batch", sealed)
    assert by_hand["state"]["message"] == "2 created, 0 already there, 1 refused"
    made = [task.params for task in list_tasks(task_type="single_image")]
    assert sorted((params["prompt"], params["steps"]) for params in made) == [("a", 4), ("a", 4), ("b", 4), ("b", 4)]


def test_run_fails_with_the_reason_when_its_template_is_missing(platform: Platform) -> None:
    parameters = {"project_id": str(platform.owner.project_id), "template": "gone", "items": [{}]}
    _, state, message = run_batch(platform, parameters, "2026-01-01T03:00:00+00:00")
    assert state == "FAILED"
    assert "there is no template `gone`" in message
