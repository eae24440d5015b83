"""A user with things of theirs, and every credential that somebody may show for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import sqlalchemy as sa

import tasks_lib
from db import tables
from tasks_lib import database
from tasks_lib.auth import issue_token, list_tokens, revoke_token
from tests.conftest import Owner
from tests.unit.auth.signing import SECRET, forged, shared

TYPE = "travel_orchestrator"
URL = "https://example.com/0.jpg"
PARAMS: dict[str, Any] = {"image_urls": [URL], "base_prompts": ["a walk"], "segment_frames": 9}
SERVICE_KEY = "the key of the service"


@dataclass(frozen=True)
class Scene:
    """A user with a shot, a task that waits, one that was cancelled, a picture to upload and a template."""

    owner: Owner
    shot: UUID
    pending: UUID
    cancelled: UUID
    picture: Path

    @property
    def project(self) -> UUID:
        return self.owner.project_id


def travel(owner: Owner) -> UUID:
    return tasks_lib.create_task(TYPE, PARAMS, project_id=owner.project_id, token=owner.token).task_id


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
