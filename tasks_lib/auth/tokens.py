"""Personal access tokens: shown once, kept as a digest, found by their visible prefix."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr

from db import tables
from tasks_lib import database

MARK = "utk_"
PREFIX_LENGTH = len(MARK) + 10
SCOPES = ("tasks:create", "tasks:read", "tasks:cancel", "worker")
DEFAULT_SCOPES = ("tasks:create", "tasks:read", "tasks:cancel")


@dataclass(frozen=True)
class IssuedToken:
    """A new token. `secret` is the only copy there will ever be."""

    id: UUID
    prefix: str
    secret: SecretStr


def issue_token(
    user_id: UUID, *, label: str = "", scopes: Sequence[str] = DEFAULT_SCOPES, expires_at: datetime | None = None
) -> IssuedToken:
    """Make a token for a user."""
    prefix = MARK + secrets.token_hex(5)
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    row = sa.insert(tables.user_api_tokens).values(
        user_id=user_id,
        label=label,
        prefix=prefix,
        digest=digest(secret),
        scopes=list(scopes),
        expires_at=expires_at,
    )
    with database.transaction() as connection:
        token_id: UUID = connection.execute(row.returning(tables.user_api_tokens.c.id)).scalar_one()
    return IssuedToken(token_id, prefix, SecretStr(secret))


def find_token(secret: str) -> sa.RowMapping | None:
    """The live token that a secret belongs to, with its user's id and scopes; null for any other text."""
    token = tables.user_api_tokens
    with database.transaction() as connection:
        row = (
            connection.execute(
                sa.select(token.c.id, token.c.user_id, token.c.digest, token.c.scopes).where(
                    token.c.prefix == secret[:PREFIX_LENGTH],
                    token.c.revoked_at.is_(None),
                    sa.or_(token.c.expires_at.is_(None), token.c.expires_at > sa.func.now()),
                )
            )
            .mappings()
            .first()
        )
        if row is None or not hmac.compare_digest(row["digest"], digest(secret)):
            return None
        connection.execute(sa.update(token).where(token.c.id == row["id"]).values(last_used_at=sa.func.now()))
    return row


def digest(secret: str) -> str:
    """What is stored of a token. It has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
