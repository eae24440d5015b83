"""How often a person may call: counted in the database, so that all doors share one count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tasks_lib import database
from tasks_lib.auth.callers import Caller
from tasks_lib.errors import TaskValidationError
from tasks_lib.settings import get_settings

counted: ContextVar[bool] = ContextVar("counted", default=False)
"""Whether the present call was counted already, as a door does before it reads what is asked for."""


@contextmanager
def already_counted() -> Iterator[None]:
    """Count no call in the block, only the rows that it makes."""
    before = counted.set(True)
    try:
        yield
    finally:
        counted.reset(before)


def count_create(caller: Caller, rows: int = 0) -> None:
    """Count a create of so many tasks. Raises `RateLimitError`; the service key is exempt."""
    settings = get_settings()
    if rows > settings.create_rows_per_minute and not caller.is_service:
        allowed = settings.create_rows_per_minute
        raise TaskValidationError(
            f"{rows} tasks are more than the {allowed} of a minute; send fewer at once", "requests"
        )
    _count(caller, "create", rows, settings.create_calls_per_minute, settings.create_rows_per_minute)


def count_quote(caller: Caller) -> None:
    """Count a quote. Raises `RateLimitError`; the service key is exempt."""
    _count(caller, "quote", 0, get_settings().create_calls_per_minute)


def count_read(caller: Caller) -> None:
    """Count a list or another look. Raises `RateLimitError`; the service key is exempt."""
    _count(caller, "read", 0, get_settings().read_calls_per_minute)


def count_upload(caller: Caller) -> None:
    """Count an upload. Raises `RateLimitError`; the service key is exempt."""
    _count(caller, "upload", 0, get_settings().change_calls_per_minute)


def count_change(caller: Caller) -> None:
    """Count a cancel or a retry. Raises `RateLimitError`; the service key is exempt."""
    _count(caller, "change", 0, get_settings().change_calls_per_minute)


def _count(caller: Caller, kind: str, rows: int, max_calls: int, max_rows: int | None = None) -> None:
    # Whatever goes wrong here is raised: who cannot be counted is not let through.
    was_counted = counted.get()
    if not caller.is_service and (rows or not was_counted):
        database.call(
            "count_call",
            p_user_id=caller.user_id,
            p_kind=kind,
            p_rows=rows,
            p_max_calls=max_calls,
            p_max_rows=max_rows,
            p_calls=0 if was_counted else 1,
        )
