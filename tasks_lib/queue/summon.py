"""A create that finds no worker alive asks for one, so that pools can scale to zero between the runs of maintenance.

What starts workers lives in a layer above this one; it announces itself as the entry point `unitask.summon`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from importlib.metadata import entry_points

from tasks_lib.errors import DatabaseError
from tasks_lib.queue import leases

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0

_looked: dict[str, float] = {}


def summon(run_types: Iterable[str]) -> None:
    """Ask for a worker where a pool has none, in the background. Never fails: the task is stored already."""
    now = time.monotonic()
    due = [run_type for run_type in set(run_types) if now - _looked.get(run_type, -AGAIN_SECONDS) >= AGAIN_SECONDS]
    _looked.update(dict.fromkeys(due, now))
    try:
        missing = [run_type for run_type in due if not leases.live_workers(run_type)]
    except DatabaseError as error:
        logger.warning("cannot see whether workers live: %s", error)
        return
    if missing:
        # Not a daemon: a caller that ends right after its create still gets its worker.
        threading.Thread(target=_ask, args=(missing,), name="summon").start()


def _ask(run_types: list[str]) -> None:
    for point in entry_points(group="unitask.summon"):
        try:
            started = point.load()(run_types)
        except Exception as error:  # noqa: BLE001  maintenance starts workers too
            logger.warning("no worker could be asked for: %s", error)
        else:
            if started:
                logger.info("worker flows on their way: %s", ", ".join(started))
