"""Waiting for rows to end: one query for all that are watched in a process, however many wait."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import DatabaseError
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.wakeup import ENDED

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
MIN_INTERVAL_SECONDS = 0.2


@dataclass(frozen=True)
class Ended:
    """How a task ended."""

    task_id: UUID
    status: str
    error_message: str | None
    output_location: str | None
    result: dict[str, Any] | None
    task_run_id: UUID | None
    worker_flow_run_id: UUID | None


def child_name(task_type: str, child_key: str, task_id: UUID) -> str:
    """How people see a child in its orchestrator's run."""
    return f"{task_type} {child_key} {str(task_id)[:8]}"


@dataclass(frozen=True)
class ChildRow:
    """A planted child; `after` are the keys of the siblings that it waits for."""

    id: UUID
    child_key: str
    task_type: str
    after: list[str]

    @property
    def name(self) -> str:
        """How people see it: its key and the first eight digits of its id."""
        return child_name(self.task_type, self.child_key, self.id)


class Watcher:
    """Tells waiters when their tasks have ended. It holds no slot, no thread and no connection while nothing ends."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._waiting: dict[UUID, list[asyncio.Future[Ended]]] = {}
        self._beginning: dict[UUID, asyncio.Event] = {}

    async def begun(self, task_id: UUID) -> None:
        """Wait until a task is no longer Pending. Nobody announces that: it is seen within some seconds."""
        await self._beginning.setdefault(task_id, asyncio.Event()).wait()

    async def ended(self, task_id: UUID) -> Ended:
        """Wait until a task is Complete, Failed, Cancelled, or deleted (which counts as cancelled)."""
        return await self._watch(task_id)

    def _watch(self, task_id: UUID) -> asyncio.Future[Ended]:
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, []).append(future)
        self._bell.ring(ENDED)
        return future

    async def run(self) -> None:
        """Look at the watched rows after every wake-up, and every few seconds; until cancelled."""
        while True:
            await self._bell.wait(ENDED, POLL_SECONDS)
            watched, beginning = list(self._waiting), list(self._beginning)
            if watched or beginning:
                try:
                    for task_id in await asyncio.to_thread(_begun, beginning) if beginning else ():
                        self._beginning.pop(task_id).set()
                    for ended in await asyncio.to_thread(_ended, watched):
                        for future in self._waiting.pop(ended.task_id, []):
                            if not future.done():
                                future.set_result(ended)
                except DatabaseError as error:
                    logger.warning("cannot see the watched tasks for the moment: %s", error)
                except Exception:
                    # Whoever waits would wait for ever.
                    logger.exception("looking at the watched tasks failed in a way that nobody foresaw")
            # Many ends at once are seen together.
            await asyncio.sleep(MIN_INTERVAL_SECONDS)


class Watch:
    """What one host waits for. Once it is closed nobody waits by it any more, whoever comes later included."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._waiting: dict[asyncio.Future[Ended], UUID] = {}
        self._closed: Ended | None = None
        self._left = asyncio.Event()

    async def begun(self, task_id: UUID) -> None:
        """Wait until a task is no longer Pending, or this is closed."""
        waiting = [asyncio.ensure_future(self._watcher.begun(task_id)), asyncio.ensure_future(self._left.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def ended(self, task_id: UUID) -> Ended:
        """Wait until a task has ended, or this is closed."""
        if self._closed is not None:
            return replace(self._closed, task_id=task_id)
        future = self._watcher._watch(task_id)
        self._waiting[future] = task_id
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def close(self, reason: str) -> None:
        """Let go of whoever waits: as far as this host is concerned the tasks have moved elsewhere."""
        self._left.set()
        self._closed = Ended(UUID(int=0), "Cancelled", reason, None, None, None, None)
        for future, task_id in self._waiting.items():
            if not future.done():
                future.set_result(replace(self._closed, task_id=task_id))


def _begun(task_ids: list[UUID]) -> list[UUID]:
    t = tables.tasks
    with database.transaction() as connection:
        pending = connection.scalars(sa.select(t.c.id).where(t.c.id.in_(task_ids), t.c.status == "Pending"))
        return list(set(task_ids) - set(pending))


def _ended(task_ids: list[UUID]) -> list[Ended]:
    t, w = tables.tasks, tables.workers
    watched = (
        sa.func.unnest(sa.bindparam("ids", task_ids, sa.ARRAY(sa.UUID)))
        .table_valued("id")
        .render_derived(name="watched")
    )
    statement = (
        sa.select(
            watched.c.id.label("task_id"),
            sa.func.coalesce(t.c.status, "Cancelled").label("status"),
            sa.case((t.c.id.is_(None), "it was deleted"), else_=t.c.error_message).label("error_message"),
            t.c.output_location,
            t.c.result,
            t.c.task_run_id,
            w.c.flow_run_id.label("worker_flow_run_id"),
        )
        .select_from(watched.outerjoin(t, t.c.id == watched.c.id).outerjoin(w, w.c.id == t.c.worker_id))
        .where(sa.or_(t.c.id.is_(None), t.c.status.in_(("Complete", "Failed", "Cancelled"))))
    )
    with database.transaction() as connection:
        return [Ended(**row) for row in connection.execute(statement).mappings()]


def children_of(task_id: UUID) -> list[ChildRow]:
    """The children of an orchestrator, each after those that it waits for."""
    t, d = tables.tasks, tables.task_dependencies
    sibling = t.alias("sibling")
    after = (
        sa.select(sa.func.coalesce(sa.func.array_agg(sibling.c.child_key), sa.text("'{}'::text[]")))
        .select_from(d.join(sibling, sibling.c.id == d.c.depends_on))
        .where(d.c.task_id == t.c.id, sibling.c.parent_task_id == t.c.parent_task_id)
        .scalar_subquery()
    )
    # Children are planted in the order of their dependencies, and created_at keeps that order.
    statement = (
        sa.select(t.c.id, t.c.child_key, t.c.task_type, after.label("after"))
        .where(t.c.parent_task_id == task_id)
        .order_by(t.c.created_at)
    )
    with database.transaction() as connection:
        return [ChildRow(**row) for row in connection.execute(statement).mappings()]
