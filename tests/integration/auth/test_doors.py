"""Every public operation × every kind of credential: the exact error, its HTTP status, and nothing stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import (
    cancel_batch,
    cancel_task,
    create_task,
    create_tasks,
    create_travel_between_images_task,
    database,
    get_task,
    list_dead_letters,
    list_tasks,
    resolve_project_resolution,
    retry_task,
    upload_media,
    wait_for_task,
    watch_task,
)
from tasks_lib.auth import authenticate, issue_token, list_tokens, revoke_token
from tasks_lib.errors import AuthenticationError, AuthorizationError, NotFoundError, TaskError, TaskValidationError
from tasks_lib.settings import get_settings
from tests.conftest import Owner, make_owner
from tests.unit.auth.signing import RSA, SECRET, forged, login_service, public, shared

TYPE = "travel_orchestrator"
PARAMS: dict[str, Any] = {
    "image_urls": ["https://example.com/0.jpg"],
    "base_prompts": ["a walk"],
    "segment_frames": 9,
}
SERVICE_KEY = "the key of the service"


@dataclass(frozen=True)
class Scene:
    """A user with a task that waits, one that was cancelled and a picture to upload."""

    owner: Owner
    pending: UUID
    cancelled: UUID
    picture: Path


def travel(owner: Owner) -> UUID:
    return create_task(TYPE, PARAMS, project_id=owner.project_id, token=owner.token).task_id


@pytest.fixture
def scene(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("UNITASK_SERVICE_KEY", SERVICE_KEY)
    monkeypatch.setenv("UNITASK_JWT_SECRET", SECRET)
    get_settings.cache_clear()
    owner = make_owner("the owner")
    cancelled = travel(owner)
    cancel_task(cancelled, token=owner.token)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    return Scene(owner, travel(owner), cancelled, picture)


Operation = Callable[[Scene, str], Any]
OPERATIONS: dict[str, tuple[str, Operation]] = {
    "create_task": (
        "tasks:create",
        lambda s, t: create_task(TYPE, PARAMS, project_id=s.owner.project_id, token=t),
    ),
    "create_tasks": (
        "tasks:create",
        lambda s, t: create_tasks(
            [{"task_type": TYPE, "params": PARAMS, "project_id": s.owner.project_id}] * 2, token=t
        ),
    ),
    "create_travel_between_images_task": (
        "tasks:create",
        lambda s, t: create_travel_between_images_task(PARAMS, project_id=s.owner.project_id, token=t),
    ),
    "upload_media": ("tasks:create", lambda s, t: upload_media(s.picture, project_id=s.owner.project_id, token=t)),
    "cancel_task": ("tasks:cancel", lambda s, t: cancel_task(s.pending, token=t)),
    "cancel_batch": ("tasks:cancel", lambda s, t: [cancel_batch(s.pending, token=t)]),
    "get_task": ("tasks:read", lambda s, t: get_task(s.pending, token=t)),
    "list_tasks": ("tasks:read", lambda s, t: list_tasks(project_id=s.owner.project_id, token=t)),
    "list_dead_letters": ("tasks:read", lambda _, t: [list_dead_letters(token=t)]),
    "watch_task": ("tasks:read", lambda s, t: next(watch_task(s.pending, token=t))),
    "wait_for_task": ("tasks:read", lambda s, t: wait_for_task(s.cancelled, timeout=5, token=t)),
    "resolve_project_resolution": (
        "tasks:read",
        lambda s, t: resolve_project_resolution(s.owner.project_id, token=t),
    ),
    "retry_task": ("tasks:create", lambda s, t: retry_task(s.cancelled, token=t)),
}


def personal(scene: Scene, *scopes: str, **options: Any) -> str:
    return issue_token(scene.owner.user_id, scopes=scopes, **options).secret.get_secret_value()


def revoked(scene: Scene) -> str:
    token = issue_token(scene.owner.user_id)
    revoke_token(token.prefix)
    return token.secret.get_secret_value()


def other_scopes(scene: Scene, scope: str) -> str:
    return personal(scene, *{"tasks:create", "tasks:read", "tasks:cancel"} - {scope})


NOBODY: dict[str, Callable[[Scene], str]] = {
    "no token": lambda _: "",
    "malformed": lambda _: "Bearer \0\ud800 ' OR 1=1 --",
    "only the prefix": lambda s: list_tokens(s.owner.user_id)[0].prefix,
    "prefix with another secret": lambda s: f"{list_tokens(s.owner.user_id)[0].prefix}_{'A' * 43}",
    "part of the service key": lambda _: SERVICE_KEY[:-1],
    "expired personal token": lambda s: personal(
        s, "tasks:create", "tasks:read", "tasks:cancel", expires_at=datetime.now(UTC) - timedelta(seconds=1)
    ),
    "revoked personal token": revoked,
    "expired JWT": lambda s: shared(sub=str(s.owner.user_id), exp=int(time.time()) - 60),
    "JWT with a wrong signature": lambda s: jwt.encode({"sub": str(s.owner.user_id)}, "x" * 40, "HS256"),
    "alg none": lambda s: forged({"alg": "none"}, sub=str(s.owner.user_id)),
    "algorithm confusion": lambda s: forged({"alg": "RS256"}, SECRET.encode(), sub=str(s.owner.user_id)),
    "JWT that claims to be the service": lambda s: shared(sub=str(s.owner.user_id), role="service_role"),
}


def everything() -> dict[str, list[Any]]:
    """All rows of all tables but the counters, for comparison."""
    with database.transaction() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in tables.metadata.sorted_tables
            if table.name not in ("rate_limits", "user_api_tokens")
        }


def refused(operation: Operation, scene: Scene, token: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        operation(scene, token)
    assert not token or token not in str(caught.value)
    return caught.value


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
        if name == "list_tasks":
            continue
        for token in strangers:
            error = refused(operation, scene, token)
            assert (type(error), error.http_status) == (NotFoundError, 404)
            missing = Scene(Owner(uuid4(), uuid4(), ""), uuid4(), uuid4(), scene.picture)
            same = refused(operation, missing, token)
            assert type(same) is NotFoundError
            assert _without_ids(same, missing) == _without_ids(error, scene)
    assert everything() == before
    assert [OPERATIONS["list_tasks"][1](scene, token) for token in strangers] == [[], [], []]


def _without_ids(error: TaskError, scene: Scene) -> str:
    text = str(error)
    for id_ in (scene.owner.project_id, scene.pending, scene.cancelled):
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
        for _, operation in OPERATIONS.values():
            assert operation(scene, token)


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
