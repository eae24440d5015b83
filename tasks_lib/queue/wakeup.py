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
INTERVAL_SECONDS = 0.01

_lock = threading.Lock()
_last: dict[str, float] = {}
_late: dict[str, threading.Timer] = {}


def notify(run_types: Iterable[str]) -> None:
    """Wake the workers of some pools. Never fails: the work is stored already, and polling finds it."""
    for run_type in set(run_types):
        with _lock:
            if run_type in _late:
                continue
            wait = _last.get(run_type, 0.0) + INTERVAL_SECONDS - time.monotonic()
            if wait > 0:
                _late[run_type] = timer = threading.Timer(wait, _send, [run_type])
                timer.daemon = True
                timer.start()
                continue
        _send(run_type)


def _send(run_type: str) -> None:
    with _lock:
        _late.pop(run_type, None)
        _last[run_type] = time.monotonic()
    try:
        with database.transaction() as connection:
            connection.execute(sa.select(sa.func.pg_notify(CHANNEL, run_type)))
    except DatabaseError:
        return
