"""Nobody's calls hold up everybody's: each kind of call has threads, a time limit and a share for each user.

The threads of all kinds together are fewer than the connections to the database, so that none waits for one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from tasks_lib.database import time_limit
from tasks_lib.errors import TaskError

P = ParamSpec("P")
T = TypeVar("T")

GRACE_SECONDS = 1.0
MOST_WAITING = 64
"""Calls of one user and kind that wait for a thread."""

caller_id: ContextVar[str] = ContextVar("caller_id", default="")
"""Whose share the present call takes; empty: that of all who have shown no token."""


class BusyError(TaskError):
    """The gateway cannot do this now, or not in the time that a call may take."""

    http_status = 503
    retryable = True

    def __init__(self, message: str, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Pool:
    """The threads of one kind of call. A user gets half of them at most, and waits in the event loop for one."""

    def __init__(self, name: str, threads: int, seconds: float) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._share = (threads + 1) // 2
        self._seconds = seconds
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread when it is the caller's turn. Raises `BusyError` when its time is over."""
        loop, user = asyncio.get_running_loop(), caller_id.get()
        await self._turn(user)

        def limited() -> T:
            with time_limit(self._seconds):
                return call(*args, **kwargs)

        answer = loop.run_in_executor(self._executor, contextvars.copy_context().run, limited)
        # When the thread has ended, and not when nobody waits for it any more.
        answer.add_done_callback(lambda done: self._end(user, done))
        await asyncio.wait({answer}, timeout=self._seconds + GRACE_SECONDS)
        if not answer.done():
            raise BusyError("this takes too long now; try again")
        return answer.result()

    async def _turn(self, user: str) -> None:
        if self._running[user] >= self._share:
            waiting = self._waiting.setdefault(user, [])
            if len(waiting) >= MOST_WAITING:
                raise BusyError(f"{len(waiting)} calls of yours wait already")
            turn = asyncio.get_running_loop().create_future()
            waiting.append(turn)
            try:
                async with asyncio.timeout(self._seconds):
                    await turn
            except BaseException as error:
                if turn in waiting:
                    waiting.remove(turn)
                elif not turn.cancelled():
                    self._next(user)
                if isinstance(error, TimeoutError):
                    raise BusyError("other calls of yours take too long; try again") from None
                raise
            finally:
                if not waiting:
                    self._waiting.pop(user, None)
        else:
            self._running[user] += 1

    def _end(self, user: str, done: asyncio.Future[T]) -> None:
        if not done.cancelled():
            done.exception()  # seen: nobody may be there who would hear of it
        self._next(user)

    def _next(self, user: str) -> None:
        """Hand a place on to the user's next call, or free it."""
        waiting = self._waiting.get(user, [])
        while waiting:
            turn = waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                return
        self._running[user] -= 1
        if not self._running[user]:
            del self._running[user]


class Places:
    """How many of something there may be at once, in all and for one user."""

    def __init__(self, what: str, total: int, each: int) -> None:
        self._what = what
        self._total = total
        self._each = each
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, amount: int = 1) -> Iterator[Callable[[int], None]]:
        """Take some for the time of the block, which may take more. Raises `BusyError` when there are no more."""
        user, held = caller_id.get(), 0

        def take(more: int) -> None:
            nonlocal held
            if self._taken[user] + more > self._each or self._taken.total() + more > self._total:
                raise BusyError(f"there are too many {self._what} at once; a user may have {self._each}")
            self._taken[user] += more
            held += more

        try:
            take(amount)
            yield take
        finally:
            self._taken[user] -= held
            if not self._taken[user]:
                del self._taken[user]


LOGINS = Pool("logins", 3, 5.0)
HEALTH = Pool("health", 2, 2.0)
READS = Pool("reads", 5, 20.0)
CREATES = Pool("creates", 2, 60.0)
CHANGES = Pool("changes", 2, 60.0)
UPLOADS = Pool("uploads", 2, 600.0)

STREAMS = Places("streams", 512, 64)
FILES = Places("uploads", 8, 2)
BODY_BYTES = Places("bytes of requests", 96 << 20, 34 << 20)
