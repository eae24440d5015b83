"""Personal access tokens: shown once, kept as a digest, found by their visible prefix."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr

from db import tables
from tasks_lib import database
from tasks_lib.errors import NotFoundError, TaskValidationError

MARK = "utk_"
SHAPE = re.compile(rf"({MARK}[0-9a-f]{{10}})_[\w-]{{43}}", re.ASCII)
WORKER = "worker"
SCOPES = ("tasks:create", "tasks:read", "tasks:cancel", WORKER)
DEFAULT_SCOPES = ("tasks:create", "tasks:read", "tasks:cancel")
LAST_USE = timedelta(minutes=1)
"""How exact `last_used_at` is: not every look of a caller that polls becomes a write."""


@dataclass(frozen=True)
class IssuedToken:
    """A new token. `secret` is the only copy there will ever be."""

    id: UUID
    prefix: str
    secret: SecretStr


@dataclass(frozen=True)
class TokenFacts:
    """What is known of a token; `last_used_at` is exact to a minute."""

    prefix: str
    user_id: UUID
    label: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


def issue_token(
    user_id: UUID, *, label: str = "", scopes: Sequence[str] = DEFAULT_SCOPES, expires_at: datetime | None = None
) -> IssuedToken:
    """Make a token for a user. Raises `TaskValidationError` for scopes that there are not, or not together."""
    check_scopes(scopes)
    if expires_at is not None and expires_at.tzinfo is None:
        raise TaskValidationError("`expires_at` must have a time zone", "expires_at")
    prefix = MARK + secrets.token_hex(5)
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    row = sa.insert(tables.user_api_tokens).values(
        user_id=user_id,
        label=label,
        prefix=prefix,
        digest=digest(secret),
        scopes=list(dict.fromkeys(scopes)),
        expires_at=expires_at,
    )
    with database.transaction() as connection:
        token_id: UUID = connection.execute(row.returning(tables.user_api_tokens.c.id)).scalar_one()
    return IssuedToken(token_id, prefix, SecretStr(secret))


def list_tokens(user_id: UUID | None = None) -> list[TokenFacts]:
    """All tokens of a user, or of everybody, newest first."""
    token = tables.user_api_tokens
    statement = sa.select(*(token.c[name] for name in TokenFacts.__dataclass_fields__))
    if user_id is not None:
        statement = statement.where(token.c.user_id == user_id)
    with database.transaction() as connection:
        rows = connection.execute(statement.order_by(token.c.created_at.desc(), token.c.id)).mappings()
        return [TokenFacts(**row) for row in rows]


def revoke_token(prefix: str) -> TokenFacts:
    """End a token for good, named by its visible prefix; repeating changes nothing. Raises `NotFoundError`."""
    token = tables.user_api_tokens
    ended = sa.func.coalesce(token.c.revoked_at, sa.func.now())
    with database.transaction() as connection:
        row = (
            connection.execute(
                sa.update(token)
                .where(token.c.prefix == prefix)
                .values(revoked_at=ended)
                .returning(*(token.c[name] for name in TokenFacts.__dataclass_fields__))
            )
            .mappings()
            .first()
        )
    if row is None:
        raise NotFoundError(f"there is no token with the prefix `{prefix[:20]}`")
    return TokenFacts(**row)


def find_token(secret: str) -> sa.RowMapping | None:
    """The live token that a secret belongs to, with its user's id and scopes; null for any other text."""
    if not (match := SHAPE.fullmatch(secret)):
        return None
    token = tables.user_api_tokens
    with database.transaction() as connection:
        row = (
            connection.execute(
                sa.select(token.c.id, token.c.user_id, token.c.digest, token.c.scopes).where(
                    token.c.prefix == match[1],
                    token.c.revoked_at.is_(None),
                    sa.or_(token.c.expires_at.is_(None), token.c.expires_at > sa.func.now()),
                )
            )
            .mappings()
            .first()
        )
        if row is None or not hmac.compare_digest(row["digest"], digest(secret)):
            return None
        seen_lately = token.c.last_used_at > sa.func.now() - LAST_USE
        connection.execute(
            sa.update(token)
            .where(token.c.id == row["id"], sa.func.coalesce(seen_lately, False).is_(False))
            .values(last_used_at=sa.func.now())
        )
    return row


def digest(secret: str) -> str:
    """What is stored of a token. It has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def check_scopes(scopes: Sequence[str]) -> None:
    """Raise `TaskValidationError` for scopes that there are not, or not together."""
    allowed = ", ".join(SCOPES)
    if not scopes:
        raise TaskValidationError(f"a token needs a scope; there are {allowed}", "scopes")
    for scope in scopes:
        if scope not in SCOPES:
            raise TaskValidationError(f"there is no scope `{scope}`; there are {allowed}", "scopes")
    if WORKER in scopes and set(scopes) != {WORKER}:
        raise TaskValidationError("a worker's token may do nothing else: `worker` stands alone", "scopes")
