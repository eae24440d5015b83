"""Waiting for room at a full provider: tasks for that of others, and the parts of one task for each other's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PART_OF_CONCURRENCY = 5
MIN_PLACES = 2


class WaitingQueue:
    """Tasks that wait so that the next one is there as soon as a job ends: first come, first served.

    It has places for a fifth of the jobs that may run at once, or for two.
    """

    def __init__(self, concurrency: int) -> None:
        self._places = max(MIN_PLACES, concurrency // PART_OF_CONCURRENCY)
        self._waiting: deque[asyncio.Event] = deque()
        self.types: set[str] = set()
        """The task types that have ever waited here."""

    @property
    def free_places(self) -> int:
        """How many more may wait."""
        return self._places - len(self._waiting)

    async def wait(self, task_type: str, seconds: float) -> bool:
        """Wait until a job has ended, or for so many seconds; return False at once when the queue is full."""
        self.types.add(task_type)
        if self.free_places < 1:
            return False
        released = asyncio.Event()
        self._waiting.append(released)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await released.wait()
        finally:
            with suppress(ValueError):
                self._waiting.remove(released)
        return True

    def release_next(self) -> None:
        """Let the first one go."""
        if self._waiting:
            self._waiting.popleft().set()


class WaitingQueues:
    """One queue for each account at a provider."""

    def __init__(self) -> None:
        self._queues: dict[str, WaitingQueue] = {}

    def of(self, account: str, concurrency: int) -> WaitingQueue:
        """Return the queue of an account that may run `concurrency` jobs at once."""
        return self._queues.setdefault(account, WaitingQueue(concurrency))

    def job_ended(self, account: str) -> None:
        """Let the next one of an account go: there is room for one more job."""
        if queue := self._queues.get(account):
            queue.release_next()

    def free_places(self) -> int | None:
        """Return the fewest free places of a queue that is not full; None when no account was full yet."""
        return min((queue.free_places for queue in self._shared() if queue.free_places > 0), default=None)

    def full_types(self) -> list[str]:
        """Return the task types whose queues are full."""
        return [name for queue in self._shared() if queue.free_places < 1 for name in queue.types]

    def _shared(self) -> list[WaitingQueue]:
        # Users' own accounts (`fal/<id>`) keep nobody else from being claimed.
        return [queue for account, queue in self._queues.items() if "/" not in account]


@dataclass
class Parts:
    """The parts of one task: no more of them ask for room than the provider takes jobs."""

    places: asyncio.Semaphore
    running: int = 0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a job as running for the block."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._ended.set()

    async def wait_for_one(self, seconds: float) -> None:
        """Wait until a job of the task has ended, or for so many seconds."""
        self._ended.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
