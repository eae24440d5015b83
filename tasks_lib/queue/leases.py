"""Thin calls of the SQL functions that move a claimed task. What they do stands in db/sql/functions."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field

from db import tables
from tasks_lib import database
from tasks_lib.arguments import Pool, checked
from tasks_lib.errors import ConflictError, LeaseLostError, TaskError
from tasks_lib.masking import mask
from tasks_lib.params.asked import Asked
from tasks_lib.params.base import Name
from tasks_lib.queue import wakeup
from tasks_lib.settings import get_settings

ERROR_TEXT_LIMIT = 2_000


class Lease(NamedTuple):
    """The right to work on a task: good while no newer one was given."""

    task_id: UUID
    lease_id: int


@dataclass(frozen=True)
class ClaimedTask:
    """A task as its worker gets it. `inputs` are its dependencies' outputs, by child key (or id)."""

    id: UUID
    task_type: str
    project_id: UUID
    run_type: str
    params: dict[str, Any]
    asked: Asked | None
    placement: dict[str, Any] | None
    model: str | None
    parent_task_id: UUID | None
    child_key: str | None
    lease_id: int
    attempt: int
    max_attempts: int
    deadline_seconds: int
    previous_flow_run_id: UUID | None
    inputs: dict[str, dict[str, Any]]

    @property
    def lease(self) -> Lease:
        """What every report about this task must carry."""
        return Lease(self.id, self.lease_id)

    @property
    def name(self) -> str:
        """How people see it: the type and the first eight digits of the id."""
        return f"{self.task_type} {str(self.id)[:8]}"


@dataclass(frozen=True)
class Output:
    """What a task leaves behind: a storage key, and facts about it (`media`, `provenance`, ...) as JSON."""

    location: str | None
    result: dict[str, Any] = field(default_factory=dict)
    cost: Decimal | None = None


@dataclass(frozen=True)
class Progress:
    """How far a task is; `percent` from 0 to 100."""

    percent: float
    step: int | None = None
    total_steps: int | None = None
    message: str | None = None
    preview_key: str | None = None


@checked
def claim(
    run_type: Pool,
    worker_id: Name,
    limit: Annotated[int, Field(ge=0, le=10_000)] = 1,
    models: Sequence[str] = (),
    *,
    hosted: bool = False,
    task_id: UUID | None = None,
    without: Sequence[str] = (),
    types: Sequence[str] | None = None,
) -> list[ClaimedTask]:
    """Take up to `limit` tasks of a pool, each under a new lease; `hosted` asks for orchestrators instead of work.

    With `task_id`, that very task or nothing; tasks of other types than `types` (None: any), and of those in
    `without`, are left where they are.
    """
    settings = get_settings()
    rows = database.call(
        "claim_tasks",
        p_run_type=run_type,
        p_worker_id=worker_id,
        p_limit=limit,
        p_lease_seconds=settings.lease_seconds,
        p_models=list(models),
        p_hosted=hosted,
        p_user_cap=settings.max_tasks_per_user,
        p_task_id=task_id,
        p_without=list(without),
        p_types=None if types is None else list(types),
    )
    return [ClaimedTask(**row) for row in rows]


class Heartbeat(NamedTuple):
    """The answer to a heartbeat. Lost are tasks that were cancelled or given to another worker: stop them."""

    lost: set[Lease]
    drain: bool
    """Whether the worker is asked to end."""


def heartbeat(
    worker_id: str,
    leases: Sequence[Lease],
    models: Sequence[str] = (),
    reports: Mapping[Lease, Progress] = MappingProxyType({}),
) -> Heartbeat:
    """Say that a worker lives, extend its leases, and store how far their tasks are, all in one statement."""
    (answer,) = database.call(
        "heartbeat",
        p_worker_id=worker_id,
        p_task_ids=[lease.task_id for lease in leases],
        p_lease_ids=[lease.lease_id for lease in leases],
        p_lease_seconds=get_settings().lease_seconds,
        p_models=list(models),
        **_reports(reports),
    )
    kept = set(answer["kept"])
    return Heartbeat({lease for lease in leases if lease.task_id not in kept}, bool(answer["drain"]))


def report_all(reports: Mapping[Lease, Progress]) -> set[Lease]:
    """Store how far tasks are, and answer those that are no longer the caller's."""
    lost = set(database.scalar("report_progress", **_reports(reports)))
    return {lease for lease in reports if lease.task_id in lost}


def report_progress(lease: Lease, progress: Progress) -> None:
    """Store how far a task is. Raises `LeaseLostError` when the task is no longer the caller's."""
    if report_all({lease: progress}):
        raise LeaseLostError(f"lease {lease.lease_id} of task {lease.task_id} is over")


def _reports(reports: Mapping[Lease, Progress]) -> dict[str, Any]:
    rows = [
        lease._asdict() | asdict(progress) | {"percent": min(100.0, max(0.0, progress.percent))}
        for lease, progress in reports.items()
    ]
    return {"p_reports": json.dumps(rows, default=str), "p_event_seconds": get_settings().progress_event_seconds}


def complete(lease: Lease, output: Output) -> None:
    """Finish a task with its output, in one transaction with all that follows from it; repeating changes nothing."""
    ready = database.scalar(
        "complete_task",
        p_task_id=lease.task_id,
        p_lease_id=lease.lease_id,
        p_output_location=output.location,
        p_result=json.dumps(output.result),
        p_cost=output.cost,
    )
    wakeup.notify([wakeup.ENDED, *ready])


def fail(lease: Lease, error: TaskError) -> None:
    """Report that a task could not be done; the error's `retryable` decides whether it gets another try."""
    ready = database.scalar(
        "fail_task",
        p_task_id=lease.task_id,
        p_lease_id=lease.lease_id,
        p_error_kind=error.kind,
        p_error_message=mask(str(error))[:ERROR_TEXT_LIMIT],
        p_retryable=error.retryable,
        p_retry_after=getattr(error, "retry_after", None),
    )
    wakeup.notify([wakeup.ENDED, *ready])


def give_back(lease: Lease, after: float = 0) -> None:
    """Hand back a task that this worker will not finish; it is claimable after so many seconds, and the attempt is not
    counted.
    """
    wakeup.notify(
        database.scalar("return_task", p_task_id=lease.task_id, p_lease_id=lease.lease_id, p_after=float(after))
    )


def plant(lease: Lease, rows: Sequence[dict[str, Any]]) -> None:
    """Insert an orchestrator's children, all in one transaction; those that are there already are adopted."""
    created = database.call(
        "plant_children", p_task_id=lease.task_id, p_lease_id=lease.lease_id, p_rows=json.dumps(rows)
    )
    wakeup.notify({row["run_type"] for row in created if row["created"]})


def register_worker(worker_id: str, run_type: str, slots: int, flow_run_id: UUID | None = None) -> None:
    """Announce a worker; its heartbeats keep it on the list of the living."""
    with database.transaction() as connection:
        connection.execute(
            sa.insert(tables.workers).values(
                id=worker_id,
                run_type=run_type,
                host=socket.gethostname(),
                pid=os.getpid(),
                slots=slots,
                flow_run_id=flow_run_id,
            )
        )


class Parent(NamedTuple):
    """The orchestrator above a task, and the run that hosts it."""

    name: str
    flow_run_id: UUID | None


def show_in_prefect(lease: Lease, *, flow_run_id: UUID | None = None, task_run_id: UUID | None = None) -> Parent | None:
    """Note where Prefect shows a task (the run that hosts it, or the task run that executes it); answer its parent."""
    ids = {"flow_run_id": flow_run_id, "task_run_id": task_run_id}
    t, parent = tables.tasks, tables.tasks.alias("parent")
    with database.transaction() as connection:
        connection.execute(
            sa.update(t)
            .where(t.c.id == lease.task_id, t.c.lease_id == lease.lease_id)
            .values({name: value for name, value in ids.items() if value is not None})
        )
        row = connection.execute(
            sa.select(parent.c.id, parent.c.task_type, parent.c.flow_run_id)
            .select_from(t.join(parent, parent.c.id == t.c.parent_task_id))
            .where(t.c.id == lease.task_id)
        ).first()
    return Parent(f"{row.task_type} {str(row.id)[:8]}", row.flow_run_id) if row else None


def cancel(task_id: UUID, reason: str) -> list[UUID]:
    """Cancel a task and all below it that has not ended; answer what was cancelled."""
    cancelled: list[UUID] = database.scalar("cancel_task", p_task_id=task_id, p_reason=reason)
    wakeup.notify([wakeup.CANCEL, wakeup.ENDED])
    return cancelled


def cancel_of_run(flow_run_id: UUID, reason: str, seconds: float = 0) -> list[UUID]:
    """Cancel what a run has made or shows, since it was cancelled `seconds` ago; answer what was cancelled."""
    cancelled: list[UUID] = database.scalar(
        "cancel_of_run", p_flow_run_id=flow_run_id, p_reason=reason, p_seconds=float(seconds)
    )
    if cancelled:
        wakeup.notify([wakeup.CANCEL, wakeup.ENDED])
    return cancelled


class Retried(NamedTuple):
    """A task whose run was asked to try again, as it is now; `at_work`: a host has had it for a while."""

    task_id: UUID
    status: str
    error_message: str | None
    at_work: bool


def retry_of_run(flow_run_id: UUID) -> Retried | None:
    """Bring back the task that a run shows, if it has ended without success; None if the run shows none.

    Raises `ConflictError` and `InsufficientCreditsError`.
    """
    rows = database.call("retry_of_run", p_flow_run_id=flow_run_id, p_enforce_credits=get_settings().credits_enforced)
    wakeup.notify(["gpu", "api"])
    return Retried(**rows[0]) if rows else None


def retry(task_id: UUID, after: float = 0) -> list[UUID]:
    """Bring back a task that has ended without success; it is claimable after so many seconds, by its id at once.

    Raises `ConflictError` and `InsufficientCreditsError`.
    """
    again: list[UUID] = database.scalar(
        "retry_task", p_task_id=task_id, p_enforce_credits=get_settings().credits_enforced, p_after=float(after)
    )
    wakeup.notify(["gpu", "api"])
    return again


def retry_failed(task_ids: Sequence[UUID]) -> None:
    """Bring back those tasks that have ended without success."""
    t = tables.tasks
    with database.transaction() as connection:
        ended = connection.scalars(
            sa.select(t.c.id).where(t.c.id.in_(task_ids), t.c.status.in_(("Failed", "Cancelled")))
        ).all()
    for task_id in ended:
        with contextlib.suppress(ConflictError):
            retry(task_id)


def cancel_batch(batch_id: UUID, user_id: UUID | None, reason: str) -> list[UUID]:
    """Cancel what has not ended of a user's batch (anybody's: None), in steps; answer what was cancelled."""
    cancelled: list[UUID] = []
    while step := database.scalar("cancel_batch", p_id=batch_id, p_user_id=user_id, p_reason=reason):
        cancelled += step
        wakeup.notify([wakeup.CANCEL, wakeup.ENDED])
    return cancelled


def cancel_held(lease: Lease, reason: str) -> list[UUID]:
    """The same by the worker that holds the task. Raises `LeaseLostError`."""
    cancelled: list[UUID] = database.scalar(
        "cancel_held", p_task_id=lease.task_id, p_lease_id=lease.lease_id, p_reason=reason
    )
    wakeup.notify([wakeup.CANCEL, wakeup.ENDED])
    return cancelled


def drain_workers() -> int:
    """Ask all workers to end, and answer how many live; they finish what they hold."""
    w = tables.workers
    with database.transaction() as connection:
        asked = connection.execute(
            sa.update(w).where(w.c.stopped_at.is_(None)).values(drain=True).returning(w.c.last_seen_at > _dead_line())
        ).all()
    wakeup.notify([wakeup.CANCEL])
    return sum(alive for (alive,) in asked)


def live_workers(run_type: str) -> list[UUID | None]:
    """The workers of a pool that were heard of lately, the newest first, as the flow runs that they are."""
    w = tables.workers
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(w.c.flow_run_id)
            .where(w.c.run_type == run_type, w.c.stopped_at.is_(None), ~w.c.drain, w.c.last_seen_at > _dead_line())
            .order_by(w.c.started_at.desc(), w.c.id)
        )
        return [row.flow_run_id for row in rows]


def known_workers(flow_run_ids: Sequence[UUID]) -> set[UUID]:
    """Of these flow runs, those that have ever announced themselves as a worker."""
    w = tables.workers
    with database.transaction() as connection:
        return set(connection.scalars(sa.select(w.c.flow_run_id).where(w.c.flow_run_id.in_(flow_run_ids))))


def dead_workers() -> list[UUID]:
    """Take workers that have been silent for too long off the list; answer the flow runs that they were."""
    w = tables.workers
    with database.transaction() as connection:
        gone = connection.scalars(
            sa.update(w)
            .where(w.c.stopped_at.is_(None), w.c.last_seen_at < _dead_line())
            .values(stopped_at=sa.func.now())
            .returning(w.c.flow_run_id)
        )
        return [run_id for run_id in gone if run_id is not None]


def backlog(run_type: str, types: Sequence[str]) -> int:
    """How many tasks of a pool, of these types, wait for a worker."""
    t = tables.tasks
    with database.transaction() as connection:
        return connection.execute(
            sa.select(sa.func.count())
            .select_from(t)
            .where(t.c.run_type == run_type, t.c.status == "Pending", t.c.deps_pending == 0, t.c.task_type.in_(types))
        ).scalar_one()


def _dead_line() -> sa.ColumnElement[datetime]:
    """A worker that was not heard of since then is dead."""
    return sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, 0, 0, 0, get_settings().lease_seconds)


def retire_worker(worker_id: str) -> None:
    """Take a worker off the list of the living."""
    with database.transaction() as connection:
        connection.execute(
            sa.update(tables.workers).where(tables.workers.c.id == worker_id).values(stopped_at=sa.func.now())
        )
