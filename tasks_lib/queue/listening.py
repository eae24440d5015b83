"""Hearing wake-ups: one connection of its own, drained for ever, made again when Postgres drops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import psycopg
import sqlalchemy as sa

from tasks_lib.database import database_url
from tasks_lib.errors import DatabaseError
from tasks_lib.queue.wakeup import CHANNEL

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 1.0


class Bell:
    """Rings for every wake-up on the channel, with its word; a waiter that comes late has polling to fall back on."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def ring(self, word: str) -> None:
        """Wake whoever waits for this word."""
        self._event(word).set()

    async def wait(self, word: str, seconds: float) -> bool:
        """Wait for a ring of the word since the last wait, for `seconds` at the most."""
        event = self._event(word)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
        rang = event.is_set()
        event.clear()
        return rang

    async def listen(self) -> None:
        """Ring at every notification until cancelled. An idle LISTEN holds no snapshot, so it does not stop vacuum."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(_conninfo(), autocommit=True) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    async for notification in connection.notifies():
                        self.ring(notification.payload)
            except (psycopg.Error, DatabaseError) as error:
                logger.warning("no wake-ups for the moment, polling goes on: %s", str(error).strip())
            await asyncio.sleep(RECONNECT_SECONDS)

    def _event(self, word: str) -> asyncio.Event:
        return self._events.setdefault(word, asyncio.Event())


def _conninfo() -> str:
    return sa.make_url(database_url()).set(drivername="postgresql").render_as_string(hide_password=False)
