"""Executes the tasks of the api pool: submits once, waits, fetches, stores; and cancels what nobody waits for any more.

    begin (Postgres) → submit → store the provider's id (Postgres) → look, less and less often → fetch → check → keep

Whoever claims the task again goes on where the row of `provider_jobs` says that the last holder was.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from uuid import UUID

from tasks_lib import database, storage
from tasks_lib.errors import DatabaseError, LeaseLostError, ProviderError, TaskError, reword
from tasks_lib.params.asked import asked_fields, source_of, texts_in
from tasks_lib.providers import files, jobs
from tasks_lib.providers.base import Status, Work
from tasks_lib.providers.clients import Client, Clients
from tasks_lib.providers.http import Downloads
from tasks_lib.providers.jobs import Full, Job, JobBell, Unwanted
from tasks_lib.providers.network import ResultGone
from tasks_lib.providers.routing import Route, providers, route
from tasks_lib.providers.submission import Submission, unknown
from tasks_lib.providers.waiting import Parts, WaitingQueues
from tasks_lib.queue import ClaimedTask, Output, Progress, give_back
from tasks_lib.queue.worker import Report, Room
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.registry import get_task_type

logger = logging.getLogger(__name__)

T = TypeVar("T")

SWEEP_SECONDS = 5.0
CANCEL_AGAIN_SECONDS = 15.0
SWEPT_AT_ONCE = 20
# Users may have accounts of their own, which a full one of the service's must not keep waiting for long.
LONGEST_FULL_SECONDS = 5.0
# Where webhooks come, looks are for those that got lost.
WITH_WEBHOOKS = 4
# No result waits longer than this part of its job's age.
PAUSE_PER_AGE = 0.1
LONGEST_PAUSE_FACTOR = 50
# A report costs a transaction: so many per cent further, or other words.
WORTH_REPORTING = 1.0


class _Ended(NamedTuple):
    """A job that has succeeded at its provider, whose id of it is `job_id`."""

    client: Client
    job: Job
    job_id: str
    status: Status


class ProviderPool:
    """Everything at providers, for one event loop. Use it as a context; a `Worker` of as many slots wants its `execute`
    and `room`.

    A task leaves its slot when its jobs have ended, and `slot_is_free` is called: the next job runs at the provider
    while a result is fetched, checked and stored.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        slots: int | None = None,
        slot_is_free: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings or get_settings()
        self._limits = providers(self._settings)
        self._clients = Clients(self._settings)
        self._downloads = Downloads(self._settings)
        self._bell = JobBell()
        self._stack = AsyncExitStack()
        self._helpers: list[asyncio.Task[None]] = []
        self._sweep_now = asyncio.Event()
        self._shortest_pause = self._settings.provider_poll_seconds * (
            WITH_WEBHOOKS if self._settings.webhook_url else 1
        )
        self._queues = WaitingQueues()
        self._slots = slots or self._settings.api_slots
        self._slot_is_free = slot_is_free
        self._executing: set[UUID] = set()
        self._finishing: set[UUID] = set()
        self._full: dict[str, float] = {}
        self._unfinished: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Self:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="unitask-api-")))
        for context in (self._clients, self._downloads):
            await self._stack.enter_async_context(context)
        self._helpers.append(asyncio.create_task(self._sweep_for_ever()))
        if self._settings.webhook_url:
            self._helpers.append(asyncio.create_task(self._bell.listen()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for helper in self._helpers:
            helper.cancel()
        # A submission that is under way is seen through: its answer names a job that must not be lost.
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        await self._stack.aclose()

    async def execute(self, task: ClaimedTask, report: Report) -> Output:
        """Have a task done by the provider that serves its type, and keep the result as ours.

        Raises `ProviderError`, `RateLimitError`, and `LeaseLostError` when there was no room at the provider and the
        task was handed back.
        """
        served = route(task.task_type, self._settings)
        # Before a provider is paid for it.
        get_task_type(task.task_type).params.check_kinds(task.params)
        works = served.works(task.params, asked_fields(task.asked, task.params))
        self._executing.add(task.id)
        try:
            parts = Parts(asyncio.Semaphore(self._limits[served.provider].concurrency))
            ended = await _together([self._part(task, parts, i, served, w, report) for i, w in enumerate(works)])
            self._executing.discard(task.id)
            self._finishing.add(task.id)
            self._slot_is_free()
            with self._files(task) as name:
                paths = [self._folder / f"{name}_{i:03d}" for i in range(len(works))]
                fetched = await _together(
                    [self._fetch(task, part, path) for part, path in zip(ended, paths, strict=True)]
                )
                return await asyncio.to_thread(files.keep, task, fetched, works[0].notes)
        except BaseException as error:
            if isinstance(error, TaskError):
                _name_fields(error, task)
            # A task that was cancelled, or that failed, may have left something running.
            self._sweep_now.set()
            raise
        finally:
            self._executing.discard(task.id)
            self._finishing.discard(task.id)

    def room(self) -> Room:
        """What a worker should claim. Types that had no room at their provider a moment ago are left out: whoever
        claimed them on and on would come to nothing else, since those that wait longest are claimed first.
        """
        now = time.monotonic()
        full = [name for name, until in self._full.items() if until > now]
        # Where there may be no room, no more at once than may wait: the others would be handed back. No more
        # results than slots pile up where they come faster than they are fetched.
        return Room(
            full + self._queues.full_types(), self._queues.free_places(), min(len(self._finishing), self._slots)
        )

    async def _part(
        self, task: ClaimedTask, parts: Parts, part: int, served: Route, work: Work, report: Report
    ) -> _Ended:
        """One job from its submission, or from where an earlier holder left it, to its end at the provider."""
        async with parts.places:
            job = await self._begin(task, parts, part, served.provider, work)
            with parts.at_work():
                return await self._follow(task, job, served.provider, work, report)

    async def _follow(self, task: ClaimedTask, job: Job, provider: str, work: Work, report: Report) -> _Ended:
        report(Progress(0, message=f"{provider}: submitting" if job.fresh else f"{provider}: going on"))
        if job.state == "unknown":
            raise unknown(job)
        began = time.monotonic() - job.age
        client = await self._client(job)
        with self._bell.expecting(str(job.id)):
            # Shielded: whatever ends the task meanwhile, the id in the answer is stored.
            job_id = job.job_id or await self._shielded(
                Submission(client, job, work, task.project_id, self._webhook(job), self._settings).run()
            )
            if job.fresh:
                # The way there is no part of the job's time.
                began = time.monotonic()
            status = await self._wait(client, job, job_id, began, task, report)
        await self._ended(task, job, status)
        if status.state != "succeeded":
            raise ProviderError(
                f"{job.provider}'s job {job_id} {status.state}: {status.error or 'it gave no reason'}",
                retryable=status.retryable,
            )
        return _Ended(client, job, job_id, status)

    async def _fetch(self, task: ClaimedTask, ended: _Ended, path: Path) -> files.Fetched:
        """The result of a job, at `path` and checked."""
        client, job, job_id, status = ended
        try:
            await self._downloads.fetch(files.result_url(status.output), path)
            content_type = get_task_type(task.task_type).content_type
            suffix, facts = await asyncio.to_thread(files.check, path, content_type)
        except ResultGone as error:
            await asyncio.to_thread(jobs.end, job.id, "lost", None, str(error))
            raise
        if status.seconds is None and status.cost is None:
            status = await self._late_cost(client, job, job_id, status)
        told = {"name": job.provider, "model": job.model, "job_id": job_id, "seconds": status.seconds}
        return files.Fetched(path, suffix, facts, told)

    @contextmanager
    def _files(self, task: ClaimedTask) -> Iterator[str]:
        """How the names of a task's passing files begin; they are gone after the block.

        All lie in one folder: to make a file takes ext4 the longer, the more files and folders were just deleted.
        """
        name = f"{task.id}_{task.lease_id}"
        try:
            yield name
        finally:
            for file in self._folder.glob(f"{name}*"):
                file.unlink(missing_ok=True)

    async def _begin(self, task: ClaimedTask, parts: Parts, part: int, provider: str, work: Work) -> Job:
        """The job of a part, at once or after a wait. Raises `LeaseLostError` when there is no room soon."""
        limits = self._limits[provider]
        until = time.monotonic() + LONGEST_FULL_SECONDS
        while True:
            job = await asyncio.to_thread(
                jobs.begin,
                task.lease,
                part,
                provider,
                work.model,
                concurrency=limits.concurrency,
                per_minute=limits.per_minute,
            )
            if not isinstance(job, Full):
                return job
            if parts.running:
                # The task's own jobs make room for this one; to hand it back would drop what they have begun.
                await parts.wait_for_one(job.wait)
                until = time.monotonic() + LONGEST_FULL_SECONDS
                continue
            seconds = min(job.wait, until - time.monotonic())
            queue = self._queues.of(job.account, limits.concurrency)
            # The last free slot is left to whoever has room elsewhere.
            if seconds > 0 and len(self._executing) < self._slots and await queue.wait(task.task_type, seconds):
                continue
            self._executing.discard(task.id)
            if job.account == provider and queue.free_places > 0:
                self._full[task.task_type] = time.monotonic() + min(job.wait, LONGEST_FULL_SECONDS)
            await asyncio.to_thread(give_back, task.lease, job.wait * random.uniform(0.7, 1.3))
            raise LeaseLostError(f"{provider} has no room; the task was handed back for about {job.wait:.0f} seconds")

    async def _ended(self, task: ClaimedTask, job: Job, status: Status) -> None:
        """Store that a job has ended, and let the next one that waits have its room."""
        await asyncio.to_thread(jobs.end, job.id, status.state, status)
        self._full.pop(task.task_type, None)
        self._queues.job_ended(job.account)

    async def _client(self, job: Job) -> Client:
        try:
            return self._clients.of(job.account, job.sealed_key)
        except TaskError as error:
            if job.fresh:
                await database.through_outages(jobs.end, job.id, "failed", None, str(error))
            raise

    def _webhook(self, job: Job) -> str | None:
        base = self._settings.webhook_url
        return f"{base.rstrip('/')}/webhooks/{job.account}" if base else None

    async def _wait(
        self, client: Client, job: Job, job_id: str, began: float, task: ClaimedTask, report: Report
    ) -> Status:
        """Look at a job when its webhook comes, and less and less often, until it has ended or has taken too long."""
        # Before the worker's own deadline, which would leave the job running.
        limit = min(self._settings.provider_job_seconds, 0.9 * task.deadline_seconds)
        limit = min(limit, task.params.get("max_wait_seconds", limit))
        told = Progress(-WORTH_REPORTING)
        if job.fresh:
            await self._bell.wait(str(job.id), self._pause(0))
        while True:
            try:
                status = await client.adapter.status(client.http, job.model, job_id)
            except TaskError as error:
                if not error.retryable:
                    raise
                status = Status("running", message=f"the provider does not answer: {error}")
            spent = time.monotonic() - began
            if status.state != "running":
                return status
            if spent > limit:
                raise ProviderError(
                    f"{job.provider}'s job {job_id} took longer than {limit:.0f} seconds: it is cancelled"
                )
            percent = min(95.0, 100 * spent / limit)
            message = f"{job.provider}: {status.message or 'running'}"
            if message != told.message or percent >= told.percent + WORTH_REPORTING:
                report(told := Progress(percent, message=message))
            await self._bell.wait(str(job.id), self._pause(spent))

    def _pause(self, age: float) -> float:
        """Return the seconds until the next look at a job of `age` seconds: a tenth of its age, within bounds."""
        return min(max(PAUSE_PER_AGE * age, self._shortest_pause), LONGEST_PAUSE_FACTOR * self._shortest_pause)

    async def _late_cost(self, client: Client, job: Job, job_id: str, status: Status) -> Status:
        """Some say what a job took only after its result; a result is not held up for it."""
        try:
            later = await client.adapter.status(client.http, job.model, job_id)
        except TaskError:
            return status
        await asyncio.to_thread(jobs.end, job.id, "succeeded", later)
        return later

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except DatabaseError as error:
                logger.warning("cannot look for unwanted jobs for the moment: %s", error)
            except Exception:
                # Jobs that nobody wants would run on, and be paid for.
                logger.exception("looking for unwanted jobs failed in a way that nobody foresaw")
            try:
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._sweep_now.wait()
            except TimeoutError:
                continue
            finally:
                self._sweep_now.clear()

    async def sweep(self) -> None:
        """Cancel what runs at providers for tasks that have ended; it is asked again until the job has ended too."""
        found = await asyncio.to_thread(jobs.unwanted, SWEPT_AT_ONCE, CANCEL_AGAIN_SECONDS, self._clients.served)
        await asyncio.gather(*map(self._cancel, found))

    async def _cancel(self, job: Unwanted) -> None:
        try:
            if job.job_id is None:
                reason = "its task ended while the answer to its submission was awaited"
                return await asyncio.to_thread(jobs.end, job.id, "unknown", None, reason)
            client = self._clients.of(job.account, job.sealed_key)
            await client.adapter.cancel(client.http, job.model, job.job_id)
            status = await client.adapter.status(client.http, job.model, job.job_id)
            if status.state != "running":
                await asyncio.to_thread(jobs.end, job.id, status.state, status)
        except TaskError as error:
            logger.warning("cannot cancel %s's job %s for the moment: %s", job.provider, job.job_id, error)
        except Exception:
            # One job must not keep the others from being cancelled.
            logger.exception("cannot cancel %s's job %s", job.provider, job.job_id)

    async def _shielded(self, work: Coroutine[Any, Any, str]) -> str:
        doing = asyncio.ensure_future(work)
        self._unfinished.add(doing)
        doing.add_done_callback(self._finished)
        return await asyncio.shield(doing)

    def _finished(self, doing: asyncio.Future[Any]) -> None:
        self._unfinished.discard(doing)
        if not doing.cancelled() and (error := doing.exception()):
            logger.info("a submission ended: %s", error)
        self._sweep_now.set()


async def _together(parts: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them at once; the first that fails stops the others."""
    running = [asyncio.ensure_future(part) for part in parts]
    try:
        return await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _name_fields(error: TaskError, task: ClaimedTask) -> None:
    """Say the field of the request in the place of a file that the error names."""
    fields = asked_fields(task.asked, task.params)
    for _, text in texts_in(task.params):
        if text.startswith(storage.SCHEME) and text in str(error):
            field = source_of(text, task.params, fields)
            reword(error, str(error).replace(text, str(field)), field)
