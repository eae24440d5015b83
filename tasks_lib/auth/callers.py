"""From a token to a caller, and from a caller to the projects that are theirs."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr

from db import tables
from tasks_lib import database
from tasks_lib.auth import jwts
from tasks_lib.auth.tokens import DEFAULT_SCOPES, find_token
from tasks_lib.errors import AuthenticationError, AuthorizationError, NotFoundError
from tasks_lib.settings import get_settings


@dataclass(frozen=True)
class Caller:
    """Somebody who has shown a valid credential. The service acts for every project; a user for their own."""

    user_id: UUID | None
    scopes: frozenset[str]

    @property
    def is_service(self) -> bool:
        """Whether this is the service key and not a person."""
        return self.user_id is None

    def require(self, scope: str) -> None:
        """Raise `AuthorizationError` unless the caller's token carries the scope."""
        if not self.is_service and scope not in self.scopes:
            raise AuthorizationError(f"the token has no scope `{scope}`; it has {', '.join(sorted(self.scopes))}")


@dataclass(frozen=True)
class Project:
    """What creation needs to know of a project."""

    id: UUID
    user_id: UUID
    aspect_ratio: str | None


def authenticate(token: str | SecretStr | None = None) -> Caller:
    """Who holds this token (default: `UNITASK_TOKEN`): the service key, a JWT's user, a personal access token's user.

    Raises `AuthenticationError`, which says nothing about how close the token was.
    """
    settings = get_settings()
    given = token if token is not None else settings.token
    if not isinstance(given, str | SecretStr | None):
        raise AuthenticationError(f"a token is text, not {type(given).__name__}")
    secret = given.get_secret_value() if isinstance(given, SecretStr) else given
    if not secret:
        raise AuthenticationError("a token is required; set UNITASK_TOKEN or pass `token`")
    if settings.service_key and _same(secret, settings.service_key.get_secret_value()):
        return Caller(None, frozenset())
    if jwts.looks_like_jwt(secret):
        return Caller(jwts.verify(secret), frozenset(DEFAULT_SCOPES))
    row = find_token(secret)
    if row is None:
        raise AuthenticationError("the token is unknown, expired or revoked")
    return Caller(row["user_id"], frozenset(row["scopes"]))


def require_project(caller: Caller, project_id: UUID) -> Project:
    """The project, if the caller may act on it; one of somebody else is answered exactly as a missing one."""
    project = tables.projects
    with database.transaction() as connection:
        row = connection.execute(
            sa.select(project.c.id, project.c.user_id, project.c.aspect_ratio).where(project.c.id == project_id)
        ).first()
    if row is None or not (caller.is_service or row.user_id == caller.user_id):
        raise NotFoundError(f"there is no project {project_id}")
    return Project(row.id, row.user_id, row.aspect_ratio)


def _same(given: str, expected: str) -> bool:
    """Compare in constant time; of digests, so that the length does not show either."""
    one, other = (hashlib.sha256(text.encode(errors="replace")).digest() for text in (given, expected))
    return hmac.compare_digest(one, other)
