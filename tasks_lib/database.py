"""The one way to the database: a pool for this process, and our errors in place of the driver's."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from db import embedded
from db.engine import create_engine
from tasks_lib import errors
from tasks_lib.crashpoints import crashpoint
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

DATABASE_NAME = "unitask"
DEADLOCK = "40P01"
CANCELLED = "57014"
DEADLOCK_RETRIES = 5
OUTAGE_RETRY_SECONDS = 1.0
# Classes of SQLSTATE: connection, rollback, resources, locks, operator intervention, system.
OUTAGES = frozenset({"08", "40", "53", "55", "57", "58"})

P = ParamSpec("P")
T = TypeVar("T")

# SQLSTATEs that the functions of db/sql raise. UT005 carries a list of refusals in its detail, UT006 seconds to wait.
_STATES: dict[str, type[errors.TaskError]] = {
    "UT001": errors.LeaseLostError,
    "UT002": errors.NotFoundError,
    "UT003": errors.ConflictError,
    "UT004": errors.InsufficientCreditsError,
    # Postgres's own, for a right that the login of this process has not.
    "42501": errors.AuthorizationError,
}
_KINDS: dict[str, type[errors.TaskError]] = {
    "validation": errors.TaskValidationError,
    "not_found": errors.NotFoundError,
    "conflict": errors.ConflictError,
}


def database_url() -> str:
    """The URL of the tasks database: `UNITASK_DATABASE_URL`, or the embedded server's if that is empty."""
    settings = get_settings()
    if settings.database_url:
        return sa.make_url(settings.database_url).set(drivername="postgresql+psycopg").render_as_string(False)
    try:
        server = embedded.database_url(settings.home)
    except embedded.EmbeddedPostgresError as error:
        raise errors.DatabaseError(f"{error}; or set UNITASK_DATABASE_URL to a Postgres of your own") from None
    return sa.make_url(server).set(database=DATABASE_NAME).render_as_string(False)


@cache
def get_engine() -> Engine:
    """This process's pool. Tests clear it with `get_engine.cache_clear()`."""
    return create_engine(database_url())


@contextmanager
def transaction() -> Iterator[Connection]:
    """One transaction: committed at the end of the block, rolled back by any exception, which becomes one of ours."""
    with translated(), get_engine().begin() as connection:
        if (end := _end.get()) is not None:
            _bound(connection, end - time.monotonic())
        yield connection


_end: ContextVar[float | None] = ContextVar("end", default=None)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let all statements of the block, in this thread or task, end within so many seconds in all.

    What takes longer is ended by Postgres, and raises `DatabaseError`.
    """
    before = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(before)


def _bound(connection: Connection, seconds: float) -> None:
    if seconds <= 0:
        raise errors.DatabaseError("the time that was given for this is over", CANCELLED)
    # As a setting of the transaction, it ends with it.
    connection.execute(sa.select(sa.func.set_config("statement_timeout", f"{seconds * 1000:.0f}ms", True)))


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's exceptions into the error tree; the statement and its values stay out of the text."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise translate(error) from None
    except sa.exc.TimeoutError:
        raise errors.DatabaseError("no free connection to Postgres in time") from None


def translate(error: sa.exc.DBAPIError) -> errors.TaskError:
    """The error of the tree that a driver's exception stands for."""
    diagnosis = getattr(error.orig, "diag", None)
    state = getattr(error.orig, "sqlstate", None)
    message = getattr(diagnosis, "message_primary", None) or str(error.orig).strip()
    if state == "UT005" and diagnosis is not None:
        return refused([errors.Refusal(**row) for row in json.loads(diagnosis.message_detail)])
    if state == "UT006" and diagnosis is not None:
        seconds = float(diagnosis.message_detail)
        return errors.RateLimitError(f"{message}; come back in {seconds:.0f} seconds", seconds)
    if cls := _STATES.get(state or ""):
        return cls(message)
    return errors.DatabaseError(message, state)


def is_outage(error: errors.DatabaseError) -> bool:
    """Whether the same call may pass later: Postgres was away, busy or in the way of itself, and refused no value."""
    return error.sqlstate is None or error.sqlstate[:2] in OUTAGES


async def through_outages(write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `write` in a thread, again and again while the database is away: what it stores is not known again.

    Repeating must be harmless. Raises what `write` raises, `DatabaseError` for a statement that is refused included.
    """
    while True:
        try:
            return await asyncio.to_thread(write, *args, **kwargs)
        except errors.DatabaseError as error:
            if not is_outage(error):
                raise
            logger.warning("%s waits for the database: %s", write.__name__, error)
            await asyncio.sleep(OUTAGE_RETRY_SECONDS)


def refused(refusals: list[errors.Refusal]) -> errors.TaskError:
    """One exception for a refused batch: of the first refusal's class, naming every row."""
    first = refusals[0]
    text = first.message
    if len(refusals) > 1:
        text = "; ".join(f"row {r.index}: {r.message}" for r in refusals)
    cls = _KINDS[first.kind]
    error = errors.TaskValidationError(text, first.field) if cls is errors.TaskValidationError else cls(text)
    error.refusals = tuple(refusals)
    return error


def retry_deadlocks(function: Callable[P, T]) -> Callable[P, T]:
    """Run a whole-transaction function again when Postgres chose it as the victim of a dead-lock.

    Locks are taken from parent to child; only dependencies between two trees can still cross.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(DEADLOCK_RETRIES):
            try:
                return function(*args, **kwargs)
            except errors.DatabaseError as error:
                if error.sqlstate != DEADLOCK or attempt == DEADLOCK_RETRIES - 1:
                    raise
                time.sleep(random.uniform(0, 0.02 * 2**attempt))
        raise AssertionError("unreachable")

    return run


@retry_deadlocks
def call(function: str, **arguments: Any) -> list[dict[str, Any]]:
    """Call a function of the schema `unitask` in a transaction of its own; rows come as dictionaries."""
    with transaction() as connection:
        rows = call_in(connection, function, **arguments)
        if rows:
            crashpoint(f"{function}.executed")
    if rows:
        crashpoint(f"{function}.committed")
    return rows


def call_in(connection: Connection, function: str, **arguments: Any) -> list[dict[str, Any]]:
    """Call a function of the schema `unitask` inside the caller's transaction."""
    return [dict(row) for row in connection.execute(_call_of(function, tuple(arguments)), arguments).mappings()]


@cache
def _call_of(function: str, names: tuple[str, ...]) -> sa.TextClause:
    named = ", ".join(f"{name} => :{name}" for name in names)
    return sa.text(f"SELECT * FROM unitask.{function}({named})")  # noqa: S608  names from our code, values bound


def scalar(function: str, **arguments: Any) -> Any:
    """Call a function that answers one value."""
    (row,) = call(function, **arguments)
    return next(iter(row.values()))
