"""Thin calls of the SQL functions that keep the jobs at providers. What they do stands in db/sql/functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import ConflictError, DatabaseError
from tasks_lib.providers.base import Status
from tasks_lib.queue import Lease

ERROR_TEXT_LIMIT = 2_000
UNIQUE_VIOLATION = "23505"


@dataclass(frozen=True)
class Job:
    """One job at a provider. `age` is in seconds; `fresh` says that it was entered just now, and by the caller."""

    id: UUID
    key: str
    provider: str
    model: str
    state: str
    job_id: str | None
    age: float
    fresh: bool


def begin(
    lease: Lease, part: int, provider: str, model: str, *, concurrency: int, per_minute: int
) -> tuple[Job | None, float]:
    """The job that serves a part of a task, an earlier one or a new one; or None and the seconds to wait for room.

    Without room the task has been handed back. Raises `LeaseLostError`.
    """
    (row,) = database.call(
        "begin_provider_job",
        p_task_id=lease.task_id,
        p_lease_id=lease.lease_id,
        p_part=part,
        p_provider=provider,
        p_model=model,
        p_concurrency=concurrency,
        p_per_minute=per_minute,
    )
    wait = row.pop("wait")
    return (None, wait) if row["id"] is None else (Job(**row), 0.0)


def submitted(job: Job, job_id: str) -> None:
    """Store the provider's id of a job. No lease guards it: it is a fact, whoever works on the task meanwhile.

    Raises `ConflictError` when another task has adopted that very job.
    """
    j = tables.provider_jobs
    try:
        with database.transaction() as connection:
            connection.execute(
                sa.update(j)
                .where(j.c.id == job.id, j.c.job_id.is_(None))
                # One that was given up as unknown is known now.
                .values(job_id=job_id, state="running", ended_at=None)
            )
    except DatabaseError as error:
        if error.sqlstate == UNIQUE_VIOLATION:
            raise ConflictError(f"{job.provider}'s job {job_id} belongs to another task") from None
        raise


def known_ids(provider: str, within: float) -> set[str]:
    """The provider's ids that tasks have had in the last so many seconds."""
    j = tables.provider_jobs
    since = sa.func.clock_timestamp() - timedelta(seconds=within)
    with database.transaction() as connection:
        return set(
            connection.scalars(
                sa.select(j.c.job_id).where(j.c.provider == provider, j.c.created_at > since, j.c.job_id.is_not(None))
            )
        )


def now() -> datetime:
    """The database's clock."""
    with database.transaction() as connection:
        read: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return read


def end(job_id: UUID, state: str, status: Status | None = None, error: str | None = None) -> None:
    """Store how a job ended, and what the provider says about its time and cost."""
    told = status or Status("lost")
    text = error or told.error
    database.call(
        "end_provider_job",
        p_id=job_id,
        p_state=state,
        p_error=text and text[:ERROR_TEXT_LIMIT],
        p_seconds=told.seconds,
        p_cost=told.cost,
    )


def pause(provider: str, seconds: float) -> None:
    """Keep all workers from submitting to a provider for a while; the longest pause counts."""
    database.call("pause_provider", p_provider=provider, p_seconds=seconds)


def unwanted(limit: int, again_seconds: float) -> list[dict[str, Any]]:
    """Rows of jobs that run for tasks which have ended, to be cancelled by the caller."""
    return database.call("unwanted_provider_jobs", p_limit=limit, p_again_seconds=again_seconds)
