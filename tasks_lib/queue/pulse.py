"""Heartbeats from a thread of their own: a busy event loop must not cost a worker its leases."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from tasks_lib.errors import DatabaseError
from tasks_lib.settings import Settings

logger = logging.getLogger(__name__)

# A loop that was silent for so many leases is hung and not busy: its tasks are better off with another worker.
HUNG_LEASES = 5

Beat = Callable[[], Callable[[], None]]
"""Says something to the database, and answers what is to follow from its answer."""


class Pulse:
    """Calls `beat` at every interval, `tell` in between, and hands their answers to the event loop that made it."""

    def __init__(self, beat: Beat, tell: Beat, settings: Settings) -> None:
        self._beat = beat
        self._tell = tell
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._seen = time.monotonic()
        self._now = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def beat_now(self) -> None:
        """Do not wait for the interval: somebody cancelled something."""
        self._now.set()

    def stop(self) -> None:
        """Beat no more; `join` waits for the last one."""
        self._stopping = True
        self._now.set()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _run(self) -> None:
        interval = self._settings.heartbeat_seconds
        due = time.monotonic() + interval
        while True:
            asked = self._now.wait(min(self._settings.progress_seconds, max(0.0, due - time.monotonic())))
            self._now.clear()
            if self._stopping:
                return
            if time.monotonic() - self._seen > HUNG_LEASES * self._settings.lease_seconds:
                logger.error("the event loop hangs; the leases are given up")
                return
            is_due = asked or time.monotonic() >= due
            due = time.monotonic() + interval if is_due else due
            follow = self._ask(self._beat if is_due else self._tell)
            try:
                self._loop.call_soon_threadsafe(self._alive, follow)
            except RuntimeError:
                return  # the loop is closed, and its worker gone

    def _ask(self, say: Beat) -> Callable[[], None] | None:
        try:
            return say()
        except DatabaseError as error:
            logger.warning("no heartbeat for the moment: %s", error)
        except Exception:
            # Without its heart the worker would go on, and lose whatever it claims.
            logger.exception("a heartbeat failed in a way that nobody foresaw")
        return None

    def _alive(self, follow: Callable[[], None] | None) -> None:
        self._seen = time.monotonic()
        if follow is not None:
            follow()
