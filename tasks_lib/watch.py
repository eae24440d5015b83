"""Following tasks while they run: every event once and in order, also through a restart of the watcher or of Postgres.

A wake-up only says when to look, and whoever misses it looks a moment later: so neither a lost connection nor a slow
watcher loses an event. To go on after the end of a process, pass the id of the last event that it has dealt with.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar
from uuid import UUID

from tasks_lib.arguments import EventId, Id, Seconds, Token, checked
from tasks_lib.auth import authenticate, require_project
from tasks_lib.client import Task, get_task, to_id
from tasks_lib.database import is_outage, time_limit
from tasks_lib.errors import DatabaseError
from tasks_lib.events import Beginning, Event, Page, ProjectReader, TaskReader, newest_settled_id
from tasks_lib.queue.listening import LISTENER

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 1.0
UNSETTLED_SECONDS = 0.02
# Many wake-ups together are one look.
REST_SECONDS = 0.03
# A token that was revoked, or has expired, ends its watches.
TRUST_SECONDS = 1.0
LOOK_SECONDS = 10.0
# All watches of an event loop look by these threads: a database that is slow then holds up watches and nothing else.
LOOKERS = ThreadPoolExecutor(3, "watch")


@checked
def watch_project(
    project_id: Id, *, after: EventId | None = None, timeout: Seconds | None = None, token: Token = None
) -> Iterator[Event]:
    """Yield what happens to all tasks of a project, for ever: from now on, or after the event with the id `after`.

    `after=0` begins with the oldest event that is kept. Raises `TimeoutError` after `timeout` seconds.
    """
    yield from _follow(_of_project(project_id, after, timeout, token))


@checked
async def watch_project_async(
    project_id: Id, *, after: EventId | None = None, token: Token = None
) -> AsyncIterator[Event]:
    """As `watch_project`, in an event loop, where `asyncio.timeout` bounds it."""
    start = await last_event_id_async(project_id, token=token) if after is None else after
    async for event in _follow_async(await _in_turn(_of_project, project_id, start, None, token)):
        yield event


@checked
def watch_task(
    task_id: Id, *, after: EventId = 0, timeout: Seconds | None = None, token: Token = None
) -> Iterator[Event]:
    """Yield what has happened to a task (after the event with the id `after`) and what happens, until it has ended.

    Raises `TimeoutError` after `timeout` seconds.
    """
    yield from _follow(_of_task(task_id, after, timeout, token))


@checked
async def watch_task_async(task_id: Id, *, after: EventId = 0, token: Token = None) -> AsyncIterator[Event]:
    """As `watch_task`, in an event loop, where `asyncio.timeout` bounds it."""
    async for event in _follow_async(await _in_turn(_of_task, task_id, after, None, token)):
        yield event


@checked
def wait_for_task(task_id: Id, *, timeout: Seconds | None = None, token: Token = None) -> Task:
    """Wait until a task has ended, and return it. Raises `TimeoutError` after `timeout` seconds."""
    for _ in watch_task(task_id, timeout=timeout, token=token):
        pass
    return get_task(task_id, token=token)


@checked
def last_event_id(project_id: Id, *, token: Token = None) -> int:
    """Where to resume to see what happens in a project from now on."""
    _check(project_id, token)
    return newest_settled_id(to_id(project_id))


@checked
async def last_event_id_async(project_id: Id, *, token: Token = None) -> int:
    """As `last_event_id`, in an event loop, where `asyncio.timeout` bounds it."""
    await _in_turn(_check, project_id, token)
    beginning = await _in_turn(Beginning, to_id(project_id))
    pause = UNSETTLED_SECONDS
    while (found := await _in_turn(beginning.read)) is None:
        await asyncio.sleep(pause)
        pause = min(2 * pause, POLL_SECONDS)
    return found


class _Place:
    """Where a watcher is, and whether it may still ask; `check` raises when it may not."""

    def __init__(self, reader: ProjectReader | TaskReader, check: Callable[[], object], timeout: float | None) -> None:
        check()
        self._reader = reader
        self._check = check
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._trusted_until = time.monotonic() + TRUST_SECONDS
        self._unsettled_pause = UNSETTLED_SECONDS
        self.pause = 0.0
        """How long to wait for a wake-up before the next look."""
        self.ended = False

    def look(self) -> list[Event]:
        """What is new. An outage of Postgres is waited out: nothing is lost by it."""
        try:
            if time.monotonic() > self._trusted_until:
                self._check()
                self._trusted_until = time.monotonic() + TRUST_SECONDS
            page = self._reader.read()
        except DatabaseError as error:
            if not is_outage(error):
                raise
            logger.warning("nothing is seen for the moment: %s", error)
            page = Page([])
        self.ended = page.ended
        self.pause = self._patience(page)
        return page.events

    def _patience(self, page: Page) -> float:
        if page.more:
            return 0.0
        # Who is open now will soon have ended, but somebody may have forgotten a transaction for an hour.
        self._unsettled_pause = min(2 * self._unsettled_pause, POLL_SECONDS) if page.unsettled else UNSETTLED_SECONDS
        longest = self._unsettled_pause if page.unsettled else POLL_SECONDS
        if self._deadline is None or page.ended:
            return longest
        left = self._deadline - time.monotonic()
        if left < 0 and not page.events:
            raise TimeoutError("what was watched for has not happened in time")
        return max(0.0, min(longest, left))


def _follow(place: _Place) -> Iterator[Event]:
    rung = threading.Event()
    with LISTENER.heard(lambda _: rung.set()):
        while True:
            rung.clear()
            yield from place.look()
            if place.ended:
                return
            rung.wait(place.pause)
            time.sleep(REST_SECONDS)


async def _follow_async(place: _Place) -> AsyncIterator[Event]:
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    with LISTENER.heard(lambda _: loop.call_soon_threadsafe(rung.set)):
        while True:
            rung.clear()
            for event in await _in_turn(place.look):
                yield event
            if place.ended:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(place.pause):
                    await rung.wait()
            await asyncio.sleep(REST_SECONDS)


async def _in_turn(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call in one of the few threads that look for all watches; what is called must not wait for others."""

    def limited() -> T:
        with time_limit(LOOK_SECONDS):
            return call(*args, **kwargs)

    return await asyncio.get_running_loop().run_in_executor(LOOKERS, contextvars.copy_context().run, limited)


def _of_project(project_id: UUID | str, after: int | None, timeout: float | None, token: Token) -> _Place:
    start = last_event_id(project_id, token=token) if after is None else after
    return _Place(ProjectReader(to_id(project_id), start), lambda: _check(project_id, token), timeout)


def _check(project_id: UUID | str, token: Token) -> None:
    caller = authenticate(token)
    caller.require("tasks:read")
    require_project(caller, to_id(project_id))


def _of_task(task_id: UUID | str, after: int, timeout: float | None, token: Token) -> _Place:
    def check() -> Task:
        return get_task(task_id, token=token)

    return _Place(TaskReader(check().id, after), check, timeout)
