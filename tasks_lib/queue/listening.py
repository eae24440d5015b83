"""Hearing wake-ups: one connection for a whole process, drained all the time, made again when Postgres drops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import sqlalchemy as sa

from tasks_lib.database import database_url
from tasks_lib.errors import DatabaseError
from tasks_lib.queue.wakeup import CHANNEL

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0
LINGER_SECONDS = 0.5
MOST_WORDS = 10_000


class Bell:
    """Rings for every wake-up on the channel, with its word; a waiter that comes late has polling to fall back on."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._listener = listener or LISTENER

    def ring(self, word: str) -> None:
        """Wake whoever waits for this word. Of others a number is remembered and no more: any login can notify."""
        if word in self._events or len(self._events) < MOST_WORDS:
            self._event(word).set()

    async def wait(self, word: str, seconds: float) -> bool:
        """Wait for a ring of the word since the last wait, for `seconds` at the most."""
        event = self._event(word)
        with contextlib.suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it loses a cancellation that comes with the ring, and a worker lives on.
            async with asyncio.timeout(seconds):
                await event.wait()
        rang = event.is_set()
        event.clear()
        return rang

    async def listen(self) -> None:
        """Ring at every notification until cancelled."""
        loop = asyncio.get_running_loop()
        with self._listener.heard(lambda word: loop.call_soon_threadsafe(self.ring, word)):
            await asyncio.Event().wait()

    def _event(self, word: str) -> asyncio.Event:
        return self._events.setdefault(word, asyncio.Event())


class Listener:
    """The one ear of a process for a channel: a thread that lives while somebody wants to hear.

    An idle LISTEN holds no snapshot, so it does not stop vacuum.
    """

    def __init__(self, channel: str = CHANNEL) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._rings: list[Callable[[str], object]] = []
        self._listening = False

    @contextlib.contextmanager
    def heard(self, ring: Callable[[str], object]) -> Iterator[None]:
        """Call `ring` with the word of every wake-up during the block; from the other thread, so it must be quick."""
        with self._lock:
            self._rings.append(ring)
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._listen, name="listener", daemon=True).start()
        try:
            yield
        finally:
            # Under the lock: when the block is left nobody is rung any more, and an event loop may be closed.
            with self._lock:
                self._rings.remove(ring)

    def _listen(self) -> None:
        while self._is_needed():
            try:
                with psycopg.connect(_conninfo(), autocommit=True) as connection:
                    connection.execute(f"LISTEN {self._channel}")
                    while self._is_needed():
                        for notification in connection.notifies(timeout=LINGER_SECONDS, stop_after=1):
                            self._ring(notification.payload)
            except (psycopg.Error, DatabaseError) as error:
                logger.warning("no wake-ups for the moment, polling goes on: %s", str(error).strip())
                time.sleep(RECONNECT_SECONDS)

    def _is_needed(self) -> bool:
        with self._lock:
            self._listening = bool(self._rings)
            return self._listening

    def _ring(self, word: str) -> None:
        with self._lock:
            for ring in self._rings:
                ring(word)


LISTENER = Listener()


def _conninfo() -> str:
    return sa.make_url(database_url()).set(drivername="postgresql").render_as_string(hide_password=False)
