"""What happened to tasks, in the order in which it happened; the `id` of an event is where a reader resumes.

Every move of a task, and its progress now and then, is a row of `task_events` in the transaction that made it.
"""

from __future__ import annotations

import time
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

# Every transaction that is numbered below this had ended when the statement began.
_OLDEST_OPEN: sa.Label[int] = sa.literal_column(
    "(SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint)", sa.BigInteger
).label("oldest_open")

# Every transaction that had a number when the statement began has a lower one. The snapshot's xmax is no such bound, it
# follows the last that ended; `age` counts on to the counter itself, as long as this transaction has no number.
_NEXT_TRANSACTION: sa.Label[int] = sa.literal_column(
    "(SELECT pg_snapshot_xmax(s)::text::bigint + age(pg_snapshot_xmax(s)::xid) FROM pg_current_snapshot() s)",
    sa.BigInteger,
).label("next_transaction")


@dataclass(frozen=True)
class Event:
    """Something that happened to a task.

    `kind` is `created`, `processing` (claimed), `pending` (it will be tried again: retried, rescued, handed back),
    `complete`, `failed`, `cancelled`, or `progress`. `data` has what was known then: `task_type`, `parent_task_id`,
    `child_key`, `attempt`, `worker_id`, `output_location`, `error_kind`, `error_message`; of progress `percent`,
    `step`, `total_steps`, `message`, `preview_key`.
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
    transaction has ended that was open when it was first seen: no lower id can come after that. What is settled is the
    same for every reader, and an id is all that must be kept to resume.
    """

    def __init__(self, project_id: UUID, after: int = 0) -> None:
        self.after = after
        self._project_id = project_id
        # Events up to an id wait for the transactions that are numbered below another.
        self._until = 0
        self._barrier = 0

    def read(self) -> Page:
        """The next events that are settled."""
        with database.transaction() as connection:
            rows = connection.execute(_events(tables.task_events.c.project_id == self._project_id, self.after)).all()
        if not rows:
            return Page([])
        first, settled = rows[0], rows
        if first.oldest_open < first.next_transaction:
            settled = []
            if first.oldest_open >= self._barrier:
                settled = [row for row in rows if row.id <= self._until]
                self._until, self._barrier = rows[-1].id, first.next_transaction
        events = [_event(row) for row in settled]
        self.after = events[-1].id if events else self.after
        return Page(events, more=len(events) == PAGE, unsettled=len(events) < len(rows))


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
    """Where to resume to see what happens from now on; waits for the transactions that are open now."""
    e = tables.task_events
    newest = sa.select(sa.func.coalesce(sa.func.max(e.c.id), 0)).where(e.c.project_id == project_id).scalar_subquery()
    barrier = None
    while True:
        with database.transaction() as connection:
            found = connection.execute(sa.select(newest.label("id"), _OLDEST_OPEN, _NEXT_TRANSACTION)).one()
        barrier = barrier or found
        if found.oldest_open >= barrier.next_transaction:
            return int(barrier.id)
        time.sleep(SETTLING_SECONDS)


def _events(whose: sa.ColumnElement[bool], after: int) -> sa.Select[Any]:
    e = tables.task_events
    return (
        sa.select(
            *(e.c[name] for name in ("id", "project_id", "task_id", "kind", "data", "created_at")),
            _OLDEST_OPEN,
            _NEXT_TRANSACTION,
        )
        .where(whose, e.c.id > after)
        .order_by(e.c.id)
        .limit(PAGE)
    )


def _event(row: sa.Row[Any]) -> Event:
    return Event(row.id, row.project_id, row.task_id, row.kind, row.data["status"], row.data, row.created_at)
