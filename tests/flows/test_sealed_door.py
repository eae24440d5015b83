"""Deployments as a door: the caller's token travels sealed or stays in a block, and then lies nowhere."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from flows.api import answers
from tasks_lib import TaskCreated, create_task, get_task, list_tasks, wait_for_task
from tasks_lib.auth import IssuedToken, issue_token, revoke_token
from tasks_lib.errors import AuthenticationError, TaskError
from tasks_lib.settings import get_settings
from tests.flows.conftest import SECRETS, Platform, until
from tests.flows.searching import files_with, tables_with
from tests.flows.test_cli import UNITASK, unitask
from tests.unit.auth.signing import forged, shared

TRAVEL = "travel_orchestrator"


@dataclass(frozen=True)
class Doors:
    """The tokens that were used, and what became of the same request with each credential."""

    tokens: dict[str, IssuedToken]
    sealed: TaskCreated | TaskError
    by_block: TaskCreated | TaskError
    revoked: TaskCreated | TaskError
    no_block: TaskCreated | TaskError


def outcome(create: Callable[[], TaskCreated]) -> TaskCreated | TaskError:
    """What a create answers, or the error that it raises."""
    try:
        return create()
    except TaskError as error:
        return error


@pytest.fixture(scope="module")
def doors(platform: Platform) -> Iterator[Doors]:
    """Four runs of the deployment at once, since each takes seconds to start."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PREFECT_API_URL", platform.run.prefect_api_url)
    tokens = {name: issue_token(platform.owner.user_id) for name in ("sealed", "block", "revoked")}
    revoke_token(tokens["revoked"].prefix)
    platform.save_secret("somebodys-token", tokens["block"].secret.get_secret_value())
    request = platform.request(2)
    project_id = request.pop("project_id")

    def create(**credential: Any) -> TaskCreated | TaskError:
        return outcome(lambda: create_task(TRAVEL, request, project_id=project_id, via="deployment", **credential))

    credentials: list[dict[str, Any]] = [
        {"token": tokens["sealed"].secret},
        {"token_block": "somebodys-token"},
        {"token": tokens["revoked"].secret},
        {"token_block": "nobodys-token"},
    ]
    with ThreadPoolExecutor(4) as pool:
        yield Doors(tokens, *pool.map(lambda credential: create(**credential), credentials))
    patch.undo()


def test_task_is_made_when_the_token_travels_sealed_or_stays_in_a_block(doors: Doors) -> None:
    for created in (doors.sealed, doors.by_block):
        assert isinstance(created, TaskCreated), created
        assert created.created
        assert wait_for_task(created.task_id, timeout=120).status == "Complete"


def test_callers_error_is_raised_when_the_run_refuses_the_token(doors: Doors) -> None:
    for refused, why in ((doors.revoked, "revoked"), (doors.no_block, "no Secret block `nobodys-token`")):
        assert isinstance(refused, AuthenticationError), refused
        assert str(refused).startswith("Authentication failed: ")
        assert why in str(refused)


def test_sealed_token_is_refused_when_it_is_sent_again(platform: Platform, doors: Doors) -> None:
    """Somebody reads the parameters of the run in the UI and sends them again, changed."""
    runs = platform.post("/flow_runs/filter", {"flow_runs": {"name": {"like_": "create "}}})
    stolen = next(run for run in runs if run["parameters"].get("sealed_token"))
    for seal in (stolen["parameters"]["sealed_token"], stolen["parameters"]["sealed_token"] + " "):
        sent = {**stolen["parameters"], "sealed_token": seal}
        again = platform.run_deployment("create-task/create-task", sent)
        assert again["state_type"] == "FAILED"
        assert "Authentication failed: the sealed token" in again["state"]["message"]
    stolen["parameters"]["request"]["params"]["base_prompts"] = ["something else"]
    again = platform.run_deployment("create-task/create-task", stolen["parameters"])
    assert again["state_type"] == "FAILED"
    assert "Authentication failed: the sealed token does not belong" in again["state"]["message"]


@contextmanager
def gateway() -> Iterator[httpx.Client]:
    """The HTTP door in a process of its own, as people run it; what it writes lies with the logs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (get_settings().home / "gateway.log").open("wb") as log:
        command = [UNITASK, "gateway", "--port", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"UNITASK_TOKEN": ""})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as web:
            until(lambda: process.poll() is None and answers(web, "/health"))
            yield web
    finally:
        process.terminate()
        process.wait()


def test_no_token_lies_anywhere_when_it_came_through_any_door(platform: Platform, doors: Doors) -> None:
    """Library, command line, HTTP, deployments, workers, a provider; then both databases and all files are searched."""
    library, command, by_http = (issue_token(platform.owner.user_id) for _ in range(3))
    jwt = shared(secret=SECRETS["JWT_SECRET"], sub=str(platform.owner.user_id))
    created = create_task(
        "magic_edit",
        {"prompt": "a walk", "image_url": platform.images(1)[0]},
        project_id=platform.owner.project_id,
        token=library.secret,
    )
    edited = wait_for_task(created.task_id, timeout=60, token=jwt)
    assert (edited.status, edited.error_message) == ("Complete", None), "the provider was called with its key"
    assert list_tasks(token=SECRETS["SERVICE_KEY"])
    with pytest.raises(AuthenticationError):
        get_task(created.task_id, token=forged({"alg": "none"}, sub=str(platform.owner.user_id)))
    environment = {"UNITASK_TOKEN": command.secret.get_secret_value()}
    assert unitask("show", str(created.task_id), **environment).returncode == 0
    assert unitask("create", "magic_edit", "--set", "prompt=", **environment).returncode == 1

    with gateway() as web:
        bearer = {"Authorization": f"Bearer {by_http.secret.get_secret_value()}"}
        assert web.get(f"/v1/tasks/{created.task_id}", headers=bearer).json()["status"] == "Complete"
        assert web.post("/v1/tasks", headers=bearer, json={"task_type": "magic_edit"}).status_code == 422
        assert web.get("/v1/tasks", headers={"Authorization": f"Bearer {jwt[:-1]}"}).status_code == 401
        assert web.get("/v1/tasks", headers={"Authorization": f"Bearer {SECRETS['SERVICE_KEY']}"}).is_success

    issued = [*doors.tokens.values(), library, command, by_http]
    # Without the prefix, which people may see. The rest may hold underscores itself.
    halves = [token.secret.get_secret_value()[-30:] for token in issued]
    hidden = {*SECRETS.values(), *halves, platform.owner.token[-30:], jwt.rpartition(".")[2]}
    assert tables_with(hidden) == set()
    assert files_with(hidden, get_settings().home) == set()
    shown = {token.prefix for token in issued}
    assert {prefix for prefix, _ in tables_with(shown)} == shown, "the search finds what is there"
