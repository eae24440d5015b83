"""What callers of deployments get back: a typed answer in their own process, or one sentence about what is wrong."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from tasks_lib import list_tasks
from tasks_lib.auth import issue_token, revoke_token
from tests.flows.conftest import ENDED, Platform, run_prefect, until
from tests.flows.test_cli import unitask

TRAVEL = "travel_orchestrator/travel-orchestrator"
CREATE = "create-task/create-task"

CALL = """
import json
from prefect.deployments import run_deployment
run = run_deployment({name!r}, parameters={parameters!r}, timeout=100, as_subflow=False)
try:
    answer = run.state.result()
    print(json.dumps([run.state.message, type(answer).__name__, answer.model_dump(mode="json")]))
except Exception as error:
    print(json.dumps([run.state.message, type(error).__name__, str(error)]))
"""


def call(platform: Platform, name: str, parameters: dict[str, Any]) -> tuple[str, str, Any]:
    """What `run_deployment` gives in a process of the caller's: the state's message, and what its result is."""
    message, kind, answer = run_prefect(platform, CALL.format(name=name, parameters=parameters))
    return message, kind, answer


@pytest.fixture(scope="module")
def block(platform: Platform) -> str:
    """A Secret block that the command line made."""
    name = "block-of-callers"
    done = unitask("token", "create", "creator", name, "--block", PREFECT_API_URL=platform.run.prefect_api_url)
    assert done.returncode == 0, done.stderr
    return name


def test_caller_gets_the_task_when_create_task_is_run(platform: Platform, block: str) -> None:
    params = platform.request(2)
    request = {"task_type": "travel_orchestrator", "project_id": params.pop("project_id"), "params": params}
    message, kind, answer = call(platform, CREATE, {"request": request, "token_block": block})
    assert kind == "TaskOutcome", (message, answer)
    (task,) = [task for task in list_tasks() if str(task.id) == answer["task_id"]]
    assert answer["task_type"] == task.task_type == "travel_orchestrator"
    assert answer["created"]
    assert message == f"task {task.id} is {answer['status']}"


def test_caller_gets_the_film_when_a_travel_is_run(platform: Platform, block: str) -> None:
    parameters = {"request": platform.request(2), "idempotency_key": "answered", "token_block": block}
    message, kind, answer = call(platform, TRAVEL, parameters)
    assert kind == "TaskOutcome", (message, answer)
    assert (answer["status"], answer["error_message"]) == ("Complete", None)
    assert answer["output_url"].startswith("file://")
    assert answer["output_url"].endswith(".mp4")
    assert message == f"task {answer['task_id']} is Complete: {answer['output_url']}"


def test_callers_travel_raises_the_reason_when_it_fails(platform: Platform, block: str) -> None:
    broken = platform.folder / "no-picture.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n, and then no picture")
    images = [*platform.images(1), *platform._upload([broken])]
    message, kind, reason = call(
        platform, TRAVEL, {"request": platform.request(2, image_urls=images), "token_block": block}
    )
    (task,) = [task for task in list_tasks(task_type="travel_orchestrator", limit=1)]
    assert kind == "FailedRun"
    assert message == reason == task.error_message


@pytest.fixture(scope="module")
def mistakes(platform: Platform, block: str) -> dict[str, Any]:
    """Runs of callers who are wrong, each in one way, and what was given: all at once, since each takes seconds."""
    revoked = issue_token(platform.owner.user_id)
    platform.save_secret("revoked", revoked.secret.get_secret_value())
    revoke_token(revoked.prefix)
    travel = platform.request(2)
    create = {"task_type": "image_upscale", "project_id": travel["project_id"], "params": {"image_url": "nowhere"}}
    with_block = {"token_block": block}
    given: dict[str, tuple[str, dict[str, Any]]] = {
        "`segment_frames[0]` must be from 5 to 81 frames, not 4": (
            TRAVEL,
            {"request": {**travel, "segment_frames": 4}, **with_block},
        ),
        "`image_url`": (CREATE, {"request": create, **with_block}),
        "`tokenblock`: there is no such parameter; did you mean `token_block`?": (
            TRAVEL,
            {"request": travel, "tokenblock": block},
        ),
        "`image-urls`: there is no such parameter": (TRAVEL, {"request": travel, "image-urls": []}),
        "project": (TRAVEL, {"request": {**travel, "project_id": str(uuid4())}, **with_block}),
        "Authentication": (TRAVEL, {"request": travel, "token_block": "revoked"}),
        "there is no Secret block `nobodys`; `unitask token create YOUR_NAME --block nobodys` makes it": (
            TRAVEL,
            {"request": travel, "token_block": "nobodys"},
        ),
        "there is no template `gone`": (
            "scheduled-batch/scheduled-batch",
            {"project_id": travel["project_id"], "template": "gone", "items": [{}], **with_block},
        ),
    }
    runs = {}
    for expected, (name, parameters) in given.items():
        deployment = platform.get(f"/deployments/name/{name}")["id"]
        run = platform.post(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
        runs[expected] = run["id"]

    def ended(run_id: str) -> Any:
        run = platform.get(f"/flow_runs/{run_id}")
        return run["state_type"] in ENDED and run

    return {expected: until(partial(ended, run_id)) for expected, run_id in runs.items()}


def test_run_fails_in_one_sentence_when_the_caller_is_wrong(platform: Platform, mistakes: dict[str, Any]) -> None:
    for expected, run in mistakes.items():
        message = run["state"]["message"]
        assert (run["state_type"], expected in message) == ("FAILED", True), (expected, run["state"])
        assert "\n" not in message
        assert len(message) < 250
        logs = platform.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
        assert not [log["message"] for log in logs if "Traceback" in log["message"]], expected


def test_secret_block_of_the_command_line_is_not_shown_and_can_be_renewed(platform: Platform, block: str) -> None:
    api = {"PREFECT_API_URL": platform.run.prefect_api_url}
    listed = json.loads(unitask("token", "list", "creator", "--output", "json").stdout)
    (before,) = [token["prefix"] for token in listed if token["label"] == f"Secret block {block}"]
    again = unitask("token", "create", "creator", block, "--block", **api)
    assert again.returncode == 0, again.stderr
    assert "export UNITASK_TOKEN" not in again.stdout
    assert f"unitask token revoke {before}" in again.stderr
    assert unitask("token", "revoke", before).returncode == 0
    held = platform.get(f"/block_types/slug/secret/block_documents/name/{block}?include_secrets=true")["data"]["value"]
    assert held.startswith("utk_")
    assert not held.startswith(before)
    assert held not in again.stdout + again.stderr
    bad = unitask("token", "create", "creator", "No Name!", "--block", **api)
    assert bad.returncode == 1
    assert "`block`" in bad.stderr
