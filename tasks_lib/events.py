"""What happened to tasks, in the order in which it happened; the `id` of an event is where a reader resumes.

Every move of a task, and its progress now and then, is a row of `task_events` in the transaction that made it.
"""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import NotFoundError

FINAL = frozenset({"Complete", "Failed", "Cancelled"})
PAGE = 1_000
SETTLING_SECONDS = 0.02

# Whoever writes an event takes this lock on the table before the event gets its id, and keeps it until what it wrote
# can be seen. So the transactions to wait for are these and no others: whatever else is open on the server, in this
# database or another, writes no event. A login that may only read cannot take the lock.
_WRITERS = sa.text(
    """
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = 'task_events'::regclass
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)


@dataclass(frozen=True)
class Event:
    """Something that happened to a task.

    `kind` is `created`, `processing` (claimed), `pending` (it will be tried again: retried, rescued, handed back),
    `complete`, `failed`, `cancelled`, or `progress`. `data` has what was known then: `task_type`, `parent_task_id`,
    `child_key`, `attempt`, `worker_id`, `output_location`, `error_kind`, `error_message`; of progress `percent`,
    `step`, `total_steps`, `message`, `preview_key`; of an orchestrator's the steps are its
    children, and `remaining_seconds` is how long it will take.
    """

    id: int
    project_id: UUID
    task_id: UUID
    kind: str
    status: str
    data: dict[str, Any]
    at: datetime


class Page(NamedTuple):
    """Events in order, and what that says about the next look."""

    events: list[Event]
    more: bool = False
    """The page is full."""
    unsettled: bool = False
    """Events are there that cannot be told yet: an open transaction may still bring some that belong before them."""
    ended: bool = False
    """The task had ended before this was read, so this is all."""


class ProjectReader:
    """Reads the events of a project from one on, by id; 0 is before all that are kept.

    Transactions commit in another order than they took their ids. So what becomes visible stands back until every
    transaction has ended that was writing events after it was first seen: no lower id can come after that. What is
    settled is the same for every reader, and an id is all that must be kept to resume.
    """

    def __init__(self, project_id: UUID, after: int = 0) -> None:
        self.after = after
        self._is_of_project = tables.task_events.c.project_id == project_id
        # Events up to an id wait for these transactions.
        self._until = 0
        self._writers: Set[str] = frozenset()

    def read(self) -> Page:
        """The next events that are settled."""
        e = tables.task_events
        next_page = sa.select(e.c.id).where(self._is_of_project, e.c.id > self.after).order_by(e.c.id).limit(PAGE)
        with database.transaction() as connection:
            newest = connection.scalar(sa.select(sa.func.max(next_page.subquery().c.id)))
            if newest is None:
                return Page([])
            settled = self._settle(newest, _writers(connection))
            # Read after the writers were: what one of them wrote that has ended by now is here.
            rows = connection.execute(_events(self._is_of_project, self.after, settled)).all()
        events = [_event(row) for row in rows]
        self.after = events[-1].id if events else self.after
        return Page(events, more=len(events) == PAGE, unsettled=self.after < newest)

    def _settle(self, newest: int, writers: Set[str]) -> int:
        """Up to which id all is settled."""
        if self._writers & writers:
            self._writers &= writers
            return self.after
        settled, self._until, self._writers = self._until, newest, writers
        return settled if writers else newest


class Beginning:
    """Where to resume to see what happens in a project from now on, once that is settled."""

    def __init__(self, project_id: UUID) -> None:
        e = tables.task_events
        with database.transaction() as connection:
            newest = connection.scalar(
                sa.select(sa.func.coalesce(sa.func.max(e.c.id), 0)).where(e.c.project_id == project_id)
            )
            self._writers = _writers(connection)
        self._newest = int(newest or 0)

    def read(self) -> int | None:
        """The id; None while a transaction that was writing events at the beginning is open."""
        if self._writers:
            with database.transaction() as connection:
                self._writers &= _writers(connection)
        return None if self._writers else self._newest


class TaskReader:
    """Reads the events of one task. Nothing need settle here: whoever moves a task holds its row until the commit."""

    def __init__(self, task_id: UUID, after: int = 0) -> None:
        self.after = after
        self._task_id = task_id

    def read(self) -> Page:
        """The next events. Raises `NotFoundError` when the task is not there any more."""
        t = tables.tasks
        with database.transaction() as connection:
            # Before its events: of a task that has ended now, they are all there.
            status = connection.scalar(sa.select(t.c.status).where(t.c.id == self._task_id))
            rows = connection.execute(_events(tables.task_events.c.task_id == self._task_id, self.after)).all()
        if status is None:
            raise NotFoundError(f"there is no task {self._task_id}")
        self.after = rows[-1].id if rows else self.after
        more = len(rows) == PAGE
        return Page([_event(row) for row in rows], more=more, ended=status in FINAL and not more)


def newest_settled_id(project_id: UUID) -> int:
    """Where to resume to see what happens from now on; waits for the transactions that are writing events now."""
    beginning = Beginning(project_id)
    while (found := beginning.read()) is None:
        time.sleep(SETTLING_SECONDS)
    return found


def _writers(connection: sa.Connection) -> frozenset[str]:
    return frozenset(connection.scalars(_WRITERS))


def _events(whose: sa.ColumnElement[bool], after: int, until: int | None = None) -> sa.Select[Any]:
    e = tables.task_events
    columns = (e.c[name] for name in ("id", "project_id", "task_id", "kind", "data", "created_at"))
    statement = sa.select(*columns).where(whose, e.c.id > after).order_by(e.c.id).limit(PAGE)
    return statement if until is None else statement.where(e.c.id <= until)


def _event(row: sa.Row[Any]) -> Event:
    return Event(row.id, row.project_id, row.task_id, row.kind, row.data["status"], row.data, row.created_at)
