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


class Pulse:
    """Calls `beat` at every interval, and hands what it answers to the event loop that made this."""

    def __init__(self, beat: Callable[[], Callable[[], None]], settings: Settings) -> None:
        self._beat = beat
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
        """Beat no more."""
        self._stopping = True
        self._now.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._now.wait(self._settings.heartbeat_seconds)
            self._now.clear()
            if self._stopping:
                return
            if time.monotonic() - self._seen > HUNG_LEASES * self._settings.lease_seconds:
                logger.error("the event loop hangs; the leases are given up")
                return
            try:
                follow = self._beat()
            except DatabaseError as error:
                logger.warning("no heartbeat for the moment: %s", error)
            else:
                self._loop.call_soon_threadsafe(follow)
            self._loop.call_soon_threadsafe(self._mark)

    def _mark(self) -> None:
        self._seen = time.monotonic()
