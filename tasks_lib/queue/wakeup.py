"""Waking idle workers: a NOTIFY after the commit, at most one per pool in ten milliseconds from one process.

A NOTIFY inside the inserting transaction takes a lock that all commits share (three to four times slower at 32
clients), so it never rides along. It is a hint only: whoever misses it polls a moment later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import sqlalchemy as sa

from tasks_lib import database
from tasks_lib.errors import DatabaseError

CHANNEL = "unitask_wake"
# Words on the channel besides the names of the pools.
CANCEL = "cancel"
ENDED = "ended"
INTERVAL_SECONDS = 0.01
DEAF_SECONDS = 60.0

_lock = threading.Lock()
_last: dict[str, float] = {}
_late: dict[str, threading.Timer] = {}


def notify(words: Iterable[str]) -> None:
    """Wake the workers of some pools, or say another word. Never fails: polling finds what a lost wake-up meant."""
    for word in set(words):
        with _lock:
            if word in _late:
                continue
            wait = _last.get(word, 0.0) + INTERVAL_SECONDS - time.monotonic()
            if wait > 0:
                _late[word] = timer = threading.Timer(wait, _send, [word])
                timer.daemon = True
                timer.start()
                continue
        _send(word)


def end_deaf_listeners(seconds: float = DEAF_SECONDS) -> int:
    """End the sessions of listeners that have not read for so long, and answer how many there were.

    A stopped process whose socket is full keeps its session inside of a transaction, and that holds back vacuum. When
    it goes on it listens anew.
    """
    statement = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'LISTEN%' AND wait_event = 'ClientWrite'"
        " AND xact_start < clock_timestamp() - make_interval(secs => :seconds)"
    )
    with database.transaction() as connection:
        return int(connection.execute(statement, {"seconds": seconds}).scalar_one())


def _send(word: str) -> None:
    with _lock:
        _late.pop(word, None)
        _last[word] = time.monotonic()
    try:
        with database.transaction() as connection:
            connection.execute(sa.select(sa.func.pg_notify(CHANNEL, word)))
    except DatabaseError:
        return
