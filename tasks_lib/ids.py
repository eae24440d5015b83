"""Ids as people type them: the beginning of one is enough, where no other task of theirs begins so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.auth import Caller, authenticate
from tasks_lib.client import to_id
from tasks_lib.errors import NotFoundError, TaskValidationError

SHORT = 8
"""Digits of an id as lists show it in a narrow terminal."""
LEAST = 4
"""Digits that a beginning has at least, so that its range is a small part of the largest table."""
SHOWN = 5
_BEGINNING = re.compile(r"[0-9a-f-]+", re.ASCII)


def find_task_id(text: str) -> UUID:
    """The id of the caller's task that begins so; a whole id is taken as it is, and looked up by who needs the task.

    Raises `NotFoundError`, the same for a task of somebody else's, and `TaskValidationError` with the candidates
    where several tasks of the caller's begin so.
    """
    return _find(text, "task", [tables.tasks.c.id])


def find_batch_id(text: str) -> UUID:
    """As `find_task_id`, of a batch or of any task in it."""
    return _find(text, "task or batch", [tables.tasks.c.id, tables.tasks.c.batch_id])


def find_generation_id(text: str) -> UUID:
    """As `find_task_id`, of a generation or of a task that made it."""
    return _find(text, "task or generation", [tables.tasks.c.id, tables.generations.c.id])


def find_any_task_id(text: str) -> UUID:
    """As `find_task_id` for operators, who hold the database's login and need no token: of everybody's tasks."""
    return _find(text, "task", [tables.tasks.c.id], of_all=True)


def short_ids(ids: Sequence[UUID]) -> dict[UUID, str]:
    """The beginnings by which the caller's tasks can be named: eight digits, or all where another begins so."""
    if not ids:
        return {}
    caller = authenticate()
    t = tables.tasks
    given = sa.values(sa.column("id", sa.UUID), sa.column("low", sa.UUID), sa.column("high", sa.UUID), name="given")
    given = given.data([(id_, *_range(str(id_)[:SHORT])) for id_ in ids])
    another = sa.exists().where(t.c.id.between(given.c.low, given.c.high), t.c.id != given.c.id, *_own(caller))
    with database.transaction() as connection:
        alike = set(connection.scalars(sa.select(given.c.id).where(another)))
    return {id_: str(id_) if id_ in alike else str(id_)[:SHORT] for id_ in ids}


def is_beginning(text: str) -> bool:
    """Whether an id could begin so."""
    return bool(_BEGINNING.fullmatch(text.strip().lower()))


def _find(text: str, what: str, columns: Sequence[sa.Column[Any]], *, of_all: bool = False) -> UUID:
    beginning = text.strip().lower()
    digits = beginning.replace("-", "")
    if len(digits) >= 32 or not is_beginning(text):
        return to_id(text)
    if len(digits) < LEAST:
        raise TaskValidationError(f"`{beginning}` is too short: give {LEAST} digits of the id at least", "task_id")
    found = _begin_with(digits, columns, None if of_all else authenticate())
    if not found:
        raise NotFoundError(f"there is no {what} whose id begins with `{beginning}`")
    if len(found) > 1:
        named = ", ".join(map(str, found[:SHOWN])) + (" and more" if len(found) > SHOWN else "")
        raise TaskValidationError(f"several ids begin with `{beginning}`: {named}", "task_id")
    return found[0]


def _begin_with(digits: str, columns: Sequence[sa.Column[Any]], caller: Caller | None) -> list[UUID]:
    if caller is not None:
        caller.require("tasks:read")
    # A range of an index for each column, however many tasks there are.
    ranges = [
        sa.select(column.label("id")).where(column.between(*_range(digits)), *_own(caller, column.table))
        for column in columns
    ]
    with database.transaction() as connection:
        return sorted(connection.scalars(sa.union(*ranges).limit(SHOWN + 1)))


def _range(digits: str) -> tuple[UUID, UUID]:
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def _own(caller: Caller | None, table: sa.FromClause = tables.tasks) -> list[sa.ColumnElement[bool]]:
    """What bounds a statement on tasks or generations to the caller's own."""
    if caller is None or caller.is_service:
        return []
    if "user_id" in table.c:
        return [table.c.user_id == caller.user_id]
    project = tables.projects
    return [table.c.project_id.in_(sa.select(project.c.id).where(project.c.user_id == caller.user_id))]
