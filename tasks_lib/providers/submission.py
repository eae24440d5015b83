"""One job's way to its provider: sent once, and looked for where its answer was lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from tasks_lib import database
from tasks_lib.errors import ConflictError, RateLimitError, TaskError, UnknownOutcomeError
from tasks_lib.providers import files, jobs
from tasks_lib.providers.base import Work
from tasks_lib.providers.clients import Client
from tasks_lib.providers.http import Ambiguous
from tasks_lib.providers.jobs import Job
from tasks_lib.settings import Settings

# Clocks of providers are not ours.
CLOCK_MARGIN = timedelta(seconds=60)
SUBMISSIONS = 3


@dataclass(frozen=True)
class Submission:
    """What is submitted, by whom, and as which job; `webhook` is where the provider shall report its end."""

    client: Client
    job: Job
    work: Work
    project_id: UUID
    webhook: str | None
    settings: Settings

    async def run(self) -> str:
        """Submit the job once and store the provider's id of it.

        Raises `UnknownOutcomeError` when that is uncertain, and `ProviderError` when there is no job.
        """
        job = self.job
        reason = "" if job.fresh else "the worker that submitted it was lost before the answer came"
        began = time.monotonic() - job.age
        for _ in range(SUBMISSIONS):
            try:
                job_id = await self._find(began) if reason else None
                ready = await files.reachable(self.work, self.project_id, self.client) if job_id is None else self.work
            except Ambiguous:
                break
            except TaskError as error:
                if not reason:
                    await self._refused(error)
                raise
            try:
                if job_id is None:
                    began = time.monotonic()
                    job_id = await self.client.adapter.submit(self.client.http, ready, job.key, self.webhook)
                await database.through_outages(jobs.submitted, job, job_id)
                return job_id
            except (Ambiguous, ConflictError) as error:
                reason = str(error)
            except TaskError as error:
                await self._refused(error)
                raise
        await database.through_outages(jobs.end, job.id, "unknown", None, reason)
        raise unknown(job, reason)

    async def _refused(self, error: TaskError) -> None:
        """There is no job: it was turned away, or never sent."""
        if isinstance(error, RateLimitError):
            await database.through_outages(jobs.pause, self.job.account, error.retry_after)
        await database.through_outages(jobs.end, self.job.id, "failed", None, str(error))

    async def _find(self, began: float) -> str | None:
        """The job of a submission whose answer is lost; None only when it is certain that it never arrived."""
        # Until then its sender may still be at it, and the provider's list may lag.
        settled = began + 2 * self.settings.provider_call_seconds
        sent = files.marked(self.work)
        while True:
            age = timedelta(seconds=time.monotonic() - began) + CLOCK_MARGIN
            known = await asyncio.to_thread(jobs.known_ids, self.job.provider, age.total_seconds() + 3600)
            since = await asyncio.to_thread(jobs.now) - age
            found = await self.client.adapter.find(self.client.http, sent, since, known)
            if found is not None or time.monotonic() > settled:
                return found
            await asyncio.sleep(min(2.0, self.settings.provider_call_seconds / 4))


def unknown(job: Job, reason: str | None = None) -> UnknownOutcomeError:
    """The error of a task whose job may or may not be at the provider."""
    return UnknownOutcomeError(
        f"nobody knows whether {job.provider} took the job {job.key}{f' ({reason})' if reason else ''}: look there; "
        "the credits stay held; `unitask providers settle` settles them, `unitask retry` submits the job once more"
    )
