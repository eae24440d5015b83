"""The loop of a worker: claim, keep the leases, execute, report. It knows no Prefect and no pixels.

What executes a task and what hosts an orchestrator are given to it; everything that must survive stands in Postgres.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from tasks_lib.crashpoints import crashpoint
from tasks_lib.database import through_outages
from tasks_lib.errors import (
    ConflictError,
    DatabaseError,
    EngineError,
    LeaseLostError,
    NotFoundError,
    TaskError,
    TaskValidationError,
    unforeseen,
)
from tasks_lib.queue import leases
from tasks_lib.queue.leases import ClaimedTask, Lease, Output, Progress
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.pulse import Pulse
from tasks_lib.queue.wakeup import CANCEL, ENDED
from tasks_lib.settings import Settings, get_settings

logger = logging.getLogger(__name__)

HOSTED_AT_ONCE = 20
RENEWAL = "renewal is due"
STOP_SECONDS = 2.0


class Room(NamedTuple):
    """Task types that cannot be taken now, how many tasks to claim at once (None: as many as there are free slots), and
    how many of those held are nearly done and hold no slot any more.
    """

    without: Sequence[str] = ()
    at_once: int | None = None
    finishing: int = 0


Report = Callable[[Progress], None]
Execute = Callable[[ClaimedTask, Report], Awaitable[Output]]
Host = Callable[[ClaimedTask], Awaitable[None]]


@dataclass
class Worker:
    """One worker of a pool. `execute` makes a task's output; `host` waits with an orchestrator until it has ended.

    A cancellation, a lost lease and a deadline reach `execute` as `asyncio.CancelledError`.
    """

    run_type: str
    worker_id: str
    slots: int
    execute: Execute
    bell: Bell
    host: Host | None = None
    models: Callable[[], Sequence[str]] = tuple
    room: Callable[[], Room] = Room
    """What `execute` can take at this moment, beside what the slots say."""
    types: Sequence[str] | None = None
    """The task types that it has code for (None: any); what others wait for is left to others."""
    flow_run_id: UUID | None = None
    settings: Settings = field(default_factory=get_settings)

    def __post_init__(self) -> None:
        self._held: dict[Lease, asyncio.Future[None]] = {}
        self._progress: dict[Lease, Progress] = {}
        self._hosted: dict[Lease, asyncio.Future[None]] = {}
        self._stopping: set[Lease] = set()
        self._draining = asyncio.Event()
        self._reason = ""
        self._paused = False
        self._retiring = ""
        self._beat_now: Callable[[], None] = lambda: None
        self.done = 0
        """Tasks that have ended here, one way or the other."""

    def drain(self, reason: str) -> None:
        """Claim nothing more, finish what is held within `drain_seconds`, hand back the rest, and end."""
        self._reason = self._reason or reason
        self._draining.set()
        self.bell.ring(self.run_type)

    def restrict(self, *, paused: bool = False, retiring: str = "") -> None:
        """Claim nothing while this stands; `restrict()` lifts it. What is held goes on.

        Waiting in a pause is not idling. One that retires, for the reason given, ends when nothing executes any more.
        """
        if (paused, retiring) != (self._paused, self._retiring):
            self._paused, self._retiring = paused, retiring
            self.bell.ring(self.run_type)

    async def run(self) -> str:
        """Work until there has been none for a while, renewal is due, or `drain` was called; answer why it ended."""
        await through_outages(leases.register_worker, self.worker_id, self.run_type, self.slots, self.flow_run_id)
        beating = asyncio.create_task(self._beat_at_once_after_cancels())
        pulse = Pulse(self._beat, self._tell, self.settings)
        self._beat_now = pulse.beat_now
        pulse.start()
        try:
            await self._claim_until_drained()
            await self._finish_held()
        finally:
            beating.cancel()
            # At once: a second cancellation may cut off what is awaited here.
            pulse.stop()
            await asyncio.to_thread(pulse.join)
            for task in [*self._held.values(), *self._hosted.values()]:
                task.cancel()
            await through_outages(leases.retire_worker, self.worker_id)
        return self._reason

    async def _claim_until_drained(self) -> None:
        started = busy = time.monotonic()
        while not self._draining.is_set():
            now = time.monotonic()
            if self._retiring and not self._held:
                return self.drain(self._retiring)
            if self._paused or self._retiring:
                busy = now
                await self.bell.wait(self.run_type, self.settings.poll_seconds)
                continue
            due = self.done >= self.settings.worker_max_tasks or now - started > self.settings.worker_max_seconds
            # A provider's job goes on at the next worker; what an engine has begun would be made anew, so it may end.
            if due and not (self._held and self.run_type == "gpu"):
                return self.drain(RENEWAL)
            try:
                found = 0 if due else await self._claim()
            except DatabaseError as error:
                logger.warning("cannot claim for the moment: %s", error)
                found = 0
            if found or self._held or self._hosted:
                busy = now
            if now - busy > self.settings.idle_seconds:
                return self.drain("there was no work for a while")
            if not found:
                # The jitter keeps idle workers from asking all at once.
                await self.bell.wait(self.run_type, self.settings.poll_seconds * random.uniform(0.7, 1.3))
        return None

    async def _claim(self) -> int:
        found = 0
        room = self.room()
        if (free := self.slots + room.finishing - len(self._held)) > 0:
            found += await self._take(min(free, room.at_once or free), self._held, self._work, without=room.without)
        if self.host is not None:
            found += await self._take(HOSTED_AT_ONCE, self._hosted, self._host_one, hosted=True)
        return found

    async def _take(
        self,
        limit: int,
        into: dict[Lease, asyncio.Future[None]],
        run: Callable[[ClaimedTask], Awaitable[None]],
        *,
        hosted: bool = False,
        without: Sequence[str] = (),
    ) -> int:
        claimed = await asyncio.to_thread(
            leases.claim,
            self.run_type,
            self.worker_id,
            limit,
            self.models(),
            hosted=hosted,
            without=without,
            types=self.types,
        )
        for task in claimed:
            into[task.lease] = running = asyncio.ensure_future(run(task))
            running.add_done_callback(partial(self._released, into, task.lease))
        return len(claimed)

    def _released(self, held: dict[Lease, asyncio.Future[None]], lease: Lease, _: asyncio.Future[None]) -> None:
        held.pop(lease, None)
        self._stopping.discard(lease)
        self.done += 1
        # A slot is free: look at once.
        self.bell.ring(self.run_type)

    async def _work(self, task: ClaimedTask) -> None:
        try:
            crashpoint("execute.begun")
            _require_objects(task)
            async with asyncio.timeout(task.deadline_seconds):
                output = await self.execute(task, partial(self._note, task.lease))
            crashpoint("execute.done")
        except asyncio.CancelledError:
            # By a lost lease: it is another's business now. By the end of a drain: hand it back.
            if self._draining.is_set():
                await self._report(leases.give_back, task.lease)
        except Exception as error:  # noqa: BLE001  no failure of one task may end the worker
            await self._failed(task, error)
        else:
            await self._complete(task, output)
        finally:
            self._progress.pop(task.lease, None)

    async def _complete(self, task: ClaimedTask, output: Output) -> None:
        try:
            await self._report(leases.complete, task.lease, output)
        except TaskError as error:
            # What it should become a variant of was deleted meanwhile, for one. Trying again would not help.
            await self._failed(task, ConflictError(f"its result cannot be stored: {error}"))

    async def _host_one(self, task: ClaimedTask) -> None:
        assert self.host is not None
        try:
            _require_objects(task)
            await self.host(task)
        except asyncio.CancelledError:
            await self._report(leases.give_back, task.lease)
        except Exception as error:  # noqa: BLE001
            await self._failed(task, error)

    async def _failed(self, task: ClaimedTask, error: Exception) -> None:
        if isinstance(error, LeaseLostError):
            return
        if isinstance(error, TimeoutError):
            error = EngineError(f"{task.name} ran longer than its deadline of {task.deadline_seconds} seconds")
        elif not isinstance(error, TaskError):
            logger.error("%s failed in a way that nobody foresaw", task.name, exc_info=error)
            error = unforeseen(error)
        await self._report(leases.fail, task.lease, error)

    async def _report(self, function: Callable[..., None], lease: Lease, *args: Any) -> None:
        """Tell the database how a task ended. Through an outage it tries again: the fence makes repeating harmless."""
        try:
            await through_outages(function, lease, *args)
        except (LeaseLostError, NotFoundError) as error:
            logger.info("what task %s gave is thrown away: %s", lease.task_id, error)
        self.bell.ring(ENDED)

    def _beat(self) -> Callable[[], None]:
        """One heartbeat, in the pulse's thread; what follows from the answer is for the event loop."""
        held = [*self._held, *self._hosted]
        beat = leases.heartbeat(self.worker_id, held, self.models(), self._take_progress())

        def follow() -> None:
            for lease in beat.lost:
                self._lost(lease)
            if beat.drain:
                self.drain("it was asked to end")

        return follow

    def _tell(self) -> Callable[[], None]:
        """What the tasks have reported since the last time, in the pulse's thread, in one statement for all of them."""
        reports = self._take_progress()
        lost = leases.report_all(reports) if reports else set()

        def follow() -> None:
            for lease in lost:
                self._lost(lease)

        return follow

    def _note(self, lease: Lease, progress: Progress) -> None:
        """Keep the newest progress of a task until the pulse takes it along; a preview is not lost to a later step."""
        if progress.preview_key is None and (before := self._progress.get(lease)) is not None:
            progress = replace(progress, preview_key=before.preview_key)
        self._progress[lease] = progress

    def _take_progress(self) -> dict[Lease, Progress]:
        # One at a time: the event loop may add to them meanwhile.
        taken = ((lease, self._progress.pop(lease, None)) for lease in list(self._progress))
        return {lease: progress for lease, progress in taken if progress is not None}

    async def _beat_at_once_after_cancels(self) -> None:
        while True:
            if await self.bell.wait(CANCEL, self.settings.lease_seconds):
                self._beat_now()

    def _lost(self, lease: Lease) -> None:
        # Once: every heartbeat says it again until the work has stopped, and a second cancel would cut that short.
        running = self._held.get(lease) or self._hosted.get(lease)
        if running is not None and lease not in self._stopping:
            self._stopping.add(lease)
            running.cancel()

    async def _finish_held(self) -> None:
        """Hosts go at once, their children are safe in the table; work gets its time, and is then handed back."""
        for hosting in self._hosted.values():
            hosting.cancel()
        held = {*self._held.values(), *self._hosted.values()}
        # Cancelled once, work stops in order; what has not stopped a moment later is cut off by the second time.
        for seconds in (self.settings.drain_seconds, STOP_SECONDS, STOP_SECONDS):
            if held:
                _, held = await asyncio.wait(held, timeout=seconds)
            for task in held:
                task.cancel()


def _require_objects(task: ClaimedTask) -> None:
    """Refuse a row whose JSON has another shape, as plain SQL may write it. Raises `TaskValidationError`."""
    for name, value in (("params", task.params), ("placement", task.placement or {})):
        if not isinstance(value, dict):
            raise TaskValidationError(f"its `{name}` must be an object, not {str(value)!r:.200}", name)
