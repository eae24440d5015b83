"""Every public operation × every kind of credential: the exact error, its HTTP status, and nothing stored."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any
from uuid import uuid4

import jwt
import pytest

import tasks_lib
from tasks_lib import accounts, database, queue
from tasks_lib.auth import authenticate, issue_token, list_tokens, revoke_token
from tasks_lib.errors import (
    AuthenticationError,
    AuthorizationError,
    NotFoundError,
    TaskError,
    TaskValidationError,
)
from tasks_lib.settings import get_settings
from tests.conftest import Owner, make_owner
from tests.integration.auth.scene import (
    NOBODY,
    PARAMS,
    SERVICE_KEY,
    TYPE,
    URL,
    Scene,
    everything,
    other_scopes,
    personal,
    travel,
)
from tests.logins import connected_as, login
from tests.unit.auth.signing import RSA, login_service, public, shared

PURE = {"expand_array_to_count", "generate_run_id", "generate_task_id", "validate_required_fields", "list_task_types"}
"""Public functions that change nothing and tell everybody the same, but for keys of their own."""


def first(events: AsyncIterator[Any]) -> Any:
    """The first of what comes in an event loop."""

    async def run() -> Any:
        return await anext(events)

    return asyncio.run(run())


Operation = Callable[[Scene, str], Any]


def helper(name: str, **params: Any) -> tuple[str, Operation]:
    """One of the creation helpers with the least that it takes."""
    return "tasks:create", lambda s, t: getattr(tasks_lib, name)(params, project_id=s.project, token=t)


OPERATIONS: dict[str, tuple[str, Operation]] = {
    "create_task": ("tasks:create", lambda s, t: tasks_lib.create_task(TYPE, PARAMS, project_id=s.project, token=t)),
    "quote": ("tasks:create", lambda s, t: tasks_lib.quote(TYPE, PARAMS, project_id=s.project, token=t)),
    "create_tasks": (
        "tasks:create",
        lambda s, t: tasks_lib.create_tasks(
            [{"task_type": TYPE, "params": PARAMS, "project_id": s.project}] * 2, token=t
        ),
    ),
    "create_annotated_image_edit_task": helper(
        "create_annotated_image_edit_task", prompt="a walk", image_url=URL, mask_url=URL
    ),
    "create_batch_image_generation_tasks": helper("create_batch_image_generation_tasks", prompts=["a walk"]),
    "create_character_animate_task": helper(
        "create_character_animate_task", character_image_url=URL, motion_video_url=URL
    ),
    "create_image_generation_task": helper("create_image_generation_task", prompt="a walk"),
    "create_image_inpaint_task": helper("create_image_inpaint_task", prompt="a walk", image_url=URL, mask_url=URL),
    "create_image_upscale_task": helper("create_image_upscale_task", image_url=URL),
    "create_individual_travel_segment_task": (
        "tasks:create",
        lambda s, t: tasks_lib.create_individual_travel_segment_task(
            project_id=s.project, token=t, shot_id=s.shot, segment_index=0, start_image_url=URL
        ),
    ),
    "create_join_clips_task": helper("create_join_clips_task", clips=[{"url": URL}, {"url": URL}]),
    "create_magic_edit_task": helper("create_magic_edit_task", prompt="a walk", image_url=URL),
    "create_replicate_upscale_task": helper("create_replicate_upscale_task", image_url=URL),
    "create_travel_between_images_task": helper("create_travel_between_images_task", **PARAMS),
    "create_template": (
        "tasks:create",
        lambda s, t: tasks_lib.create_template("another", TYPE, PARAMS, project_id=s.project, token=t),
    ),
    "create_task_from_template": (
        "tasks:create",
        lambda s, t: tasks_lib.create_task_from_template("a template", project_id=s.project, token=t),
    ),
    "get_template": ("tasks:read", lambda s, t: tasks_lib.get_template("a template", project_id=s.project, token=t)),
    "list_templates": ("tasks:read", lambda s, t: tasks_lib.list_templates(project_id=s.project, token=t)),
    "delete_template": (
        "tasks:create",
        lambda s, t: tasks_lib.delete_template("a template", project_id=s.project, token=t),
    ),
    "upload_media": ("tasks:create", lambda s, t: tasks_lib.upload_media(s.picture, project_id=s.project, token=t)),
    "cancel_task": ("tasks:cancel", lambda s, t: tasks_lib.cancel_task(s.pending, token=t)),
    "cancel_batch": ("tasks:cancel", lambda s, t: [tasks_lib.cancel_batch(s.pending, token=t)]),
    "get_task": ("tasks:read", lambda s, t: tasks_lib.get_task(s.pending, token=t)),
    "list_tasks": ("tasks:read", lambda s, t: tasks_lib.list_tasks(project_id=s.project, token=t)),
    "list_dead_letters": ("tasks:read", lambda s, t: [tasks_lib.list_dead_letters(project_id=s.project, token=t)]),
    "get_tree": ("tasks:read", lambda s, t: tasks_lib.get_tree(s.pending, token=t)),
    "get_batch": ("tasks:read", lambda s, t: tasks_lib.get_batch(s.pending, token=t)),
    "get_history": ("tasks:read", lambda s, t: tasks_lib.get_history(s.pending, token=t)),
    "media_url": ("tasks:read", lambda s, t: tasks_lib.media_url(f"{s.project}/uploads/a.png", token=t)),
    "watch_task": ("tasks:read", lambda s, t: next(tasks_lib.watch_task(s.pending, token=t))),
    "watch_task_async": ("tasks:read", lambda s, t: first(tasks_lib.watch_task_async(s.pending, token=t))),
    "watch_project": (
        "tasks:read",
        lambda s, t: next(tasks_lib.watch_project(s.project, after=0, token=t)),
    ),
    "watch_project_async": (
        "tasks:read",
        lambda s, t: first(tasks_lib.watch_project_async(s.project, after=0, token=t)),
    ),
    "last_event_id": ("tasks:read", lambda s, t: tasks_lib.last_event_id(s.project, token=t)),
    "wait_for_task": ("tasks:read", lambda s, t: tasks_lib.wait_for_task(s.cancelled, timeout=5, token=t)),
    "resolve_project_resolution": (
        "tasks:read",
        lambda s, t: tasks_lib.resolve_project_resolution(s.project, token=t),
    ),
    "create_project": (
        "tasks:create",
        lambda s, t: tasks_lib.create_project(f"a project {uuid4()}", user_id=s.owner.user_id, token=t),
    ),
    "list_projects": (
        "tasks:read",
        lambda s, t: [project for project in tasks_lib.list_projects(token=t) if project.id == s.project],
    ),
    "set_project": (
        "tasks:create",
        lambda s, t: tasks_lib.set_project(s.project, aspect_ratio="9:16", token=t),
    ),
    "create_shot": ("tasks:create", lambda s, t: tasks_lib.create_shot("another", project_id=s.project, token=t)),
    "list_shots": ("tasks:read", lambda s, t: tasks_lib.list_shots(project_id=s.project, token=t)),
    "set_shot": ("tasks:create", lambda s, t: tasks_lib.set_shot(s.shot, name="renamed", position=7, token=t)),
    "retry_task": ("tasks:create", lambda s, t: tasks_lib.retry_task(s.cancelled, token=t)),
}


NO_TASK = {"create_template", "create_project", "create_shot"}
LISTS: dict[str, list[Any]] = {"list_tasks": [], "list_dead_letters": [[]], "list_projects": []}
"""Operations that find nothing where others are refused, and what they answer then."""


def refused(operation: Operation, scene: Scene, token: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        operation(scene, token)
    assert not token or token not in str(caught.value)
    return caught.value


def test_every_public_function_has_its_place_in_the_matrix() -> None:
    functions = {name for name in tasks_lib.__all__ if inspect.isfunction(getattr(tasks_lib, name))}
    assert functions == set(OPERATIONS) | PURE
    assert set(queue.__all__) - {"ClaimedTask", "Heartbeat", "Lease", "Output", "Progress"} == set(WORK)


def test_every_operation_is_refused_when_nobody_valid_calls(scene: Scene) -> None:
    before = everything()
    for credential, make in NOBODY.items():
        token = make(scene)
        for name, (_, operation) in OPERATIONS.items():
            error = refused(operation, scene, token)
            assert (type(error), error.http_status) == (AuthenticationError, 401), (credential, name)
            assert "Authentication" in str(error)
    assert everything() == before


def test_every_operation_is_refused_when_the_token_lacks_its_scope(scene: Scene) -> None:
    before = everything()
    worker = personal(scene, "worker")
    for scope, operation in OPERATIONS.values():
        for token in (other_scopes(scene, scope), worker):
            error = refused(operation, scene, token)
            assert (type(error), error.http_status) == (AuthorizationError, 403)
    assert everything() == before


def test_every_operation_answers_as_for_a_missing_thing_when_it_is_somebody_elses(scene: Scene) -> None:
    other = make_owner("another")
    before = everything()
    strangers = (other.token, shared(sub=str(other.user_id)), shared(sub=str(uuid4())))
    for name, (_, operation) in OPERATIONS.items():
        if name in LISTS:
            continue
        for token in strangers:
            error = refused(operation, scene, token)
            assert (type(error), error.http_status) == (NotFoundError, 404)
            missing = Scene(Owner(uuid4(), uuid4(), ""), uuid4(), uuid4(), uuid4(), scene.picture)
            same = refused(operation, missing, token)
            assert type(same) is NotFoundError
            assert _without_ids(same, missing) == _without_ids(error, scene)
    assert everything() == before
    for name, nothing in LISTS.items():
        assert [OPERATIONS[name][1](scene, token) for token in strangers] == [nothing] * 3


def test_every_operation_is_refused_when_the_process_has_the_login_of_a_worker(scene: Scene) -> None:
    before = everything()
    with login(database.database_url(), "unitask_worker") as url, connected_as(url):
        for name, (_, operation) in OPERATIONS.items():
            for token in (scene.owner.token, shared(sub=str(scene.owner.user_id)), SERVICE_KEY):
                error = refused(operation, scene, token)
                assert (type(error), error.http_status) == (AuthorizationError, 403), name
    assert everything() == before


Work = Callable[[queue.Lease], Any]
WORK: dict[str, Work] = {
    "claim": lambda _: queue.claim("api", "a worker"),
    "heartbeat": lambda lease: queue.heartbeat("a worker", [lease]),
    "report_progress": lambda lease: queue.report_progress(lease, queue.Progress(1)),
    "plant": lambda lease: queue.plant(lease, []),
    "give_back": queue.give_back,
    "fail": lambda lease: queue.fail(lease, TaskError("no")),
    "complete": lambda lease: queue.complete(lease, queue.Output(None)),
    "register_worker": lambda _: queue.register_worker(f"a worker {uuid4()}", "api", 1),
    "retire_worker": lambda _: queue.retire_worker("a worker"),
}
TOKENS: dict[str, Callable[[Scene], Any]] = {
    "issue_token": lambda scene: issue_token(scene.owner.user_id),
    "revoke_token": lambda _: revoke_token("utk_0123456789"),
    "ensure_user": lambda _: accounts.ensure_user("a new user"),
    "ensure_project": lambda scene: accounts.ensure_project(scene.owner.user_id, "a new project"),
}


@pytest.mark.parametrize("role", ["unitask_gateway", "unitask_reader"])
def test_work_and_tokens_are_refused_when_the_process_has_the_login_of_a_gateway_or_reader(
    scene: Scene, role: str
) -> None:
    (task,) = queue.claim("api", "a worker", hosted=True)
    before = everything()
    with login(database.database_url(), role) as url, connected_as(url):
        for name, call in {
            **{name: partial(work, task.lease) for name, work in WORK.items()},
            **{name: partial(make, scene) for name, make in TOKENS.items()},
        }.items():
            with pytest.raises(AuthorizationError) as caught:
                call()
            assert caught.value.http_status == 403, name
    assert everything() == before


def do_everything(scene: Scene, token: str) -> None:
    """Call every operation, and see in what they left behind that those that change something did."""
    owner = scene.owner.token
    before = len(tasks_lib.list_tasks(limit=1000, token=owner))
    for _, operation in OPERATIONS.values():
        operation(scene, token)
    creating = [name for name in OPERATIONS if name.startswith("create_") and name not in NO_TASK]
    made = len(tasks_lib.list_tasks(limit=1000, token=owner)) - before
    assert made == len(creating) + 1  # `create_tasks` makes two
    assert tasks_lib.get_task(scene.pending, token=owner).status == "Cancelled"
    assert tasks_lib.get_task(scene.cancelled, token=owner).status == "Pending"
    assert [found.name for found in tasks_lib.list_templates(project_id=scene.project, token=owner)] == ["another"]
    assert [shot.name for shot in tasks_lib.list_shots(project_id=scene.project, token=owner)] == ["another", "renamed"]
    assert {project.aspect_ratio for project in tasks_lib.list_projects(token=owner)} == {"9:16", None}


def test_every_operation_passes_when_the_process_has_the_login_of_a_gateway(scene: Scene) -> None:
    with login(database.database_url(), "unitask_gateway") as url, connected_as(url):
        do_everything(scene, scene.owner.token)


def test_work_passes_and_tokens_are_refused_when_the_process_has_the_login_of_a_worker(scene: Scene) -> None:
    for _ in WORK:
        travel(scene.owner)
    with login(database.database_url(), "unitask_worker") as url, connected_as(url):
        for work in WORK.values():
            (task,) = queue.claim("api", "a worker", hosted=True)
            work(task.lease)
        for make in TOKENS.values():
            with pytest.raises(AuthorizationError):
                make(scene)


def _without_ids(error: TaskError, scene: Scene) -> str:
    text = str(error)
    for id_ in (scene.owner.project_id, scene.owner.user_id, scene.shot, scene.pending, scene.cancelled):
        text = text.replace(str(id_), "ID")
    return text


@pytest.mark.parametrize("credential", ["service key", "personal token", "HS256", "RS256"])
def test_every_operation_passes_when_the_credential_is_good(
    scene: Scene, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with login_service() as service:
        monkeypatch.setenv("UNITASK_JWT_JWKS_URL", service.url)
        get_settings.cache_clear()
        subject = str(scene.owner.user_id)
        token = {
            "service key": lambda: SERVICE_KEY,
            "personal token": lambda: scene.owner.token,
            "HS256": lambda: shared(sub=subject),
            "RS256": lambda: public(sub=subject),
        }[credential]()
        do_everything(scene, token)


def test_operations_are_refused_when_the_keys_cannot_be_had(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNITASK_JWT_JWKS_URL", "http://127.0.0.1:9/jwks.json")
    get_settings.cache_clear()
    token = jwt.encode({"sub": str(scene.owner.user_id)}, RSA, "RS256", headers={"kid": "RS256"})
    for _, operation in OPERATIONS.values():
        assert type(refused(operation, scene, token)) is AuthenticationError


def test_last_use_and_end_are_shown_when_tokens_are_listed(scene: Scene) -> None:
    token = issue_token(scene.owner.user_id, label="laptop", scopes=["tasks:read"])
    assert [facts.last_used_at for facts in list_tokens(scene.owner.user_id) if facts.label == "laptop"] == [None]
    authenticate(token.secret)
    facts = next(facts for facts in list_tokens() if facts.prefix == token.prefix)
    assert facts.last_used_at is not None
    assert facts.scopes == ["tasks:read"]
    ended = revoke_token(token.prefix)
    assert revoke_token(token.prefix) == ended
    with pytest.raises(NotFoundError):
        revoke_token("utk_nothing")


@pytest.mark.parametrize("scopes", [[], ["tasks:all"], ["worker", "tasks:read"]])
def test_token_is_not_made_when_its_scopes_do_not_go(scene: Scene, scopes: list[str]) -> None:
    with pytest.raises(TaskValidationError):
        issue_token(scene.owner.user_id, scopes=scopes)
