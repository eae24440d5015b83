"""Thin calls of the SQL functions that keep the jobs at providers. What they do stands in db/sql/functions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import ConflictError, DatabaseError
from tasks_lib.providers.base import Status
from tasks_lib.queue import Lease
from tasks_lib.queue.listening import Bell, Listener

logger = logging.getLogger(__name__)

ERROR_TEXT_LIMIT = 2_000
LONGEST_PAUSE_SECONDS = 3600.0
JOB_LISTENER = Listener("unitask_provider_jobs")
UNIQUE_VIOLATION = "23505"


@dataclass(frozen=True)
class Job:
    """One job at a provider. `age` is in seconds; `fresh` says that it was entered just now, and by the caller.

    `account` is who pays for it there: the service (`fal`), or a user (`fal/<id>`) with the key in `sealed_key`.
    """

    id: UUID
    key: str
    provider: str
    account: str
    sealed_key: str | None
    model: str
    state: str
    job_id: str | None
    age: float
    fresh: bool


@dataclass(frozen=True)
class Full:
    """An account at a provider that takes no new job for about `wait` seconds."""

    account: str
    wait: float


def begin(lease: Lease, part: int, provider: str, model: str, *, concurrency: int, per_minute: int) -> Job | Full:
    """The job that serves a part of a task, an earlier one or a new one, if there is room for it.

    Raises `LeaseLostError`.
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
    return Full(row["account"], wait) if row["id"] is None else Job(**row)


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


def pause(account: str, seconds: float) -> None:
    """Keep all workers from submitting with an account for a while; the longest pause counts."""
    database.call("pause_provider", p_account=account, p_seconds=min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS))


@dataclass(frozen=True)
class Unwanted:
    """A job that runs for a task which has ended; the fields are those of `Job`."""

    id: UUID
    provider: str
    account: str
    sealed_key: str | None
    model: str
    job_id: str | None


def unwanted(limit: int, again_seconds: float, providers: Sequence[str]) -> list[Unwanted]:
    """Jobs to be cancelled by the caller, who has keys for these providers."""
    rows = database.call(
        "unwanted_provider_jobs", p_limit=limit, p_again_seconds=again_seconds, p_providers=list(providers)
    )
    return [Unwanted(**row) for row in rows]


def sealed_key(account: str) -> str | None:
    """The key of a user's account, as they have given it; None for the service's own account."""
    key: str | None = database.scalar("provider_key", p_account=account)
    return key


def ring(account: str, job_id: str) -> bool:
    """Wake whoever waits for a job; whether the account has such a job."""
    return bool(database.scalar("notify_provider_job", p_account=account, p_job_id=job_id))


def settle_unknown(task_id: UUID, *, paid: bool) -> int:
    """Settle the hold of a task whose jobs had an unknown outcome, as a person found it; answer how many jobs.

    Raises `ConflictError` when there is no such job, or the task has not ended.
    """
    return int(database.scalar("settle_unknown_job", p_task_id=task_id, p_paid=paid))


class JobBell(Bell):
    """Rings when a webhook has come for a job. Every worker hears of all jobs and keeps those that it waits for."""

    def __init__(self) -> None:
        super().__init__(JOB_LISTENER)

    def ring(self, word: str) -> None:
        """Wake whoever waits for the job of this id."""
        if word in self._events:
            super().ring(word)

    @contextmanager
    def expecting(self, word: str) -> Iterator[None]:
        """Keep rings for a job from here on."""
        self._event(word)
        try:
            yield
        finally:
            del self._events[word]
