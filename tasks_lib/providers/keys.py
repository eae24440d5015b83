"""Keys for providers that users bring: kept encrypted for the workers, and shown to nobody again.

Whoever has given one pays the provider for their own tasks; everybody else's go by the service's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert

from db import tables
from tasks_lib import database
from tasks_lib.auth import authenticate
from tasks_lib.auth.sealing import encrypt
from tasks_lib.errors import AuthorizationError, NotFoundError, TaskValidationError
from tasks_lib.providers.routing import providers
from tasks_lib.settings import get_settings


@dataclass(frozen=True)
class KeyFacts:
    """What may be known of a key."""

    provider: str
    created_at: datetime


def set_key(provider: str, key: SecretStr, *, token: str | None = None) -> None:
    """Give the caller's own key for a provider, in the place of the one before.

    Jobs that run already are looked at with the new one, so it should be of the same account there.
    Raises `TaskValidationError` for a provider that is not known, and for a key of white space or control characters.
    """
    user_id = _person(token)
    known = providers(get_settings())
    if provider not in known:
        raise TaskValidationError(f"there is no provider `{provider}`; known are {', '.join(known)}", "provider")
    secret = key.get_secret_value()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise TaskValidationError("a key is a word of printable characters", "key")
    row = {"user_id": user_id, "provider": provider, "sealed": encrypt(key, f"{provider}/{user_id}")}
    kept = insert(tables.provider_keys).values(row)
    with database.transaction() as connection:
        connection.execute(
            kept.on_conflict_do_update(
                index_elements=["user_id", "provider"],
                set_={"sealed": kept.excluded.sealed, "created_at": sa.func.now()},
            )
        )


def list_keys(*, token: str | None = None) -> list[KeyFacts]:
    """For which providers the caller has given a key."""
    k = tables.provider_keys
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(k.c.provider, k.c.created_at).where(k.c.user_id == _person(token)).order_by(k.c.provider)
        )
        return [KeyFacts(*row) for row in rows]


def delete_key(provider: str, *, token: str | None = None) -> None:
    """Take the caller's key back. Raises `NotFoundError` when there is none."""
    k = tables.provider_keys
    with database.transaction() as connection:
        deleted = connection.execute(sa.delete(k).where(k.c.user_id == _person(token), k.c.provider == provider))
    if not deleted.rowcount:
        raise NotFoundError(f"you have given no key for `{provider}`")


def has_own_key(user_id: UUID | None, provider: str) -> bool:
    """Say whether a user has given a key for a provider; nobody in particular has none."""
    if user_id is None:
        return False
    k = tables.provider_keys
    with database.transaction() as connection:
        found = sa.select(k.c.provider).where(k.c.user_id == user_id, k.c.provider == provider)
        return connection.execute(found).first() is not None


def _person(token: str | None) -> UUID:
    caller = authenticate(token)
    caller.require("tasks:create")
    if caller.user_id is None:
        raise AuthorizationError("the service's own keys are settings; a user's key needs that user's token")
    return caller.user_id
