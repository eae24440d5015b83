"""The steps of every deployment that creates, with every credential sealed: nobody is let in who could not call."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml  # type: ignore[import-untyped]
from prefect.flows import load_flow_from_entrypoint
from pydantic import SecretStr

from flows import scheduled_batch
from flows.create_task import authorise, insert, validate_request
from flows.tokens import open_token
from tasks_lib import TaskRequest, database, list_tasks
from tasks_lib.auth.sealing import ensure_key_pair, seal
from tasks_lib.creation import TaskCreated
from tasks_lib.errors import AuthenticationError, AuthorizationError, NotFoundError, TaskError
from tasks_lib.settings import get_settings
from tasks_lib.types.registry import task_types
from tests.conftest import make_owner
from tests.integration.auth.scene import NOBODY, PARAMS, SERVICE_KEY, TYPE, Scene, everything, personal
from tests.unit.auth.signing import shared


@pytest.fixture(autouse=True)
def keys(scene: Scene) -> None:
    ensure_key_pair(get_settings().home)


def create(scene: Scene, token: str) -> TaskCreated:
    """What `create-task`, `travel_orchestrator` and `join_clips_orchestrator` do, without Prefect's server."""
    request = TaskRequest(task_type=TYPE, params=PARAMS, project_id=scene.project)
    sealed = seal(token, request.model_dump(mode="json"))

    async def run() -> TaskCreated:
        valid = await validate_request.fn(request)
        return await insert.fn(valid, await authorise.fn(valid, "no-block", sealed))

    return asyncio.run(run())


def batch(scene: Scene, token: str) -> Any:
    """What `scheduled-batch` does with a template of the scene."""
    request: dict[str, Any] = {
        "project_id": str(scene.project),
        "template": "a template",
        "items": [{}],
        "items_url": None,
        "images": None,
        "images_field": "image_url",
    }
    sealed = seal(token, request)

    async def run() -> Any:
        opened = await open_token("no-block", sealed, request)
        requests = await scheduled_batch.collect.fn(**request, occasion="now", token=opened)
        return await scheduled_batch.create.fn(requests, opened)

    return asyncio.run(run())


ROOT = Path(__file__).parents[3]
DOORS = {"create": create, "batch": batch}
DEPLOYMENTS = {
    "create-task": "create",
    "travel-orchestrator": "create",
    "join-clips-orchestrator": "create",
    "scheduled-batch": "batch",
    # These act for nobody, and take no token: the login of their process bounds them.
    "gpu-worker": None,
    "api-worker": None,
    "maintenance": None,
}
"""By which door each deployment lets its caller in."""
DEPLOYMENTS |= {name.replace("_", "-"): "create" for name, declared in task_types().items() if declared.public}


def test_every_deployment_has_its_door_and_takes_a_token_if_it_acts_for_somebody() -> None:
    for name, entrypoint in entrypoints().items():
        flow: Any = load_flow_from_entrypoint(f"{ROOT}/{entrypoint}")
        takes = {"token_block", "sealed_token"} & set(flow.parameters.properties)
        assert takes == ({"token_block", "sealed_token"} if DEPLOYMENTS[name] else set()), name
    assert set(entrypoints()) == set(DEPLOYMENTS)


def entrypoints() -> dict[str, str]:
    manifest = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    return {entry["name"]: entry["entrypoint"] for entry in manifest["deployments"]}


def refused(door: str, scene: Scene, token: str) -> tuple[type[TaskError], int]:
    with pytest.raises(TaskError) as caught:
        DOORS[door](scene, token)
    assert not token or token not in str(caught.value)
    return type(caught.value), caught.value.http_status


@pytest.mark.parametrize("door", DOORS)
def test_run_is_refused_when_the_sealed_token_is_not_good(scene: Scene, door: str) -> None:
    before = everything()
    for credential, make in NOBODY.items():
        assert refused(door, scene, make(scene)) == (AuthenticationError, 401), credential
    for scope in ("worker", "tasks:read"):
        assert refused(door, scene, personal(scene, scope)) == (AuthorizationError, 403), scope
    other = make_owner("another")
    for token in (other.token, shared(sub=str(other.user_id))):
        assert refused(door, scene, token) == (NotFoundError, 404)
    assert len(list_tasks(token=SERVICE_KEY)) == len(before["tasks"])


@pytest.mark.parametrize("door", DOORS)
def test_run_creates_when_the_sealed_token_is_good(scene: Scene, door: str) -> None:
    before = len(list_tasks(token=SERVICE_KEY))
    for token in (SERVICE_KEY, scene.owner.token, shared(sub=str(scene.owner.user_id))):
        DOORS[door](scene, token)
    # The rows of a batch have the keys of their occasion, so only the first is new.
    assert len(list_tasks(token=SERVICE_KEY)) == before + (3 if door == "create" else 1)


def opened(sealed: str, request: dict[str, Any], run: UUID | None) -> SecretStr:
    """What the run of that id gets for a sealed token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.tokens.this_flow_run_id", lambda: run)
        return asyncio.run(open_token("no-block", sealed, request))


@pytest.mark.parametrize("second", [uuid4(), None])
def test_seal_opens_for_the_run_that_had_it_first_and_for_no_other(scene: Scene, second: UUID | None) -> None:
    request = {"task_type": TYPE, "project_id": str(scene.project)}
    sealed, first = seal(scene.owner.token, request), uuid4()
    assert opened(sealed, request, first).get_secret_value() == scene.owner.token
    with pytest.raises(AuthenticationError, match="was used by another run"):
        opened(sealed, request, second)
    # A run that Prefect starts again.
    assert opened(sealed, request, first).get_secret_value() == scene.owner.token


def test_one_run_has_the_seal_when_many_come_at_once(scene: Scene) -> None:
    def use(run: UUID) -> bool:
        return bool(database.scalar("use_seal", p_digest="a seal", p_run_id=run))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, [uuid4() for _ in range(16)])) == 1
