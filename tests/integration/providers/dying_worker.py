"""An api worker that kills itself at a point, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any
from uuid import UUID

from tasks_lib.providers import files, jobs
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.queue import leases

POINTS: dict[str, tuple[Any, str, bool]] = {
    # Name of the point: the function around which the worker dies, and whether it has done its work then.
    "intent stored": (jobs, "begin", True),
    "answered": (jobs, "submitted", False),
    "id stored": (jobs, "submitted", True),
    "job ended": (jobs, "end", False),
    "fetched": (files, "check", True),
    "kept": (leases, "complete", False),
    "completed": (leases, "complete", True),
}


def deadly(function: Callable[..., Any], done: bool) -> Callable[..., Any]:
    """The function, and death before or after it."""

    def run(*args: Any, **kwargs: Any) -> None:
        if done:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    run.__name__ = function.__name__
    return run


def main(point: str, task_id: UUID) -> None:
    """Claim the task, do it, and die at the point."""
    module, name, done = POINTS[point]
    setattr(module, name, deadly(getattr(module, name), done))
    asyncio.run(_execute(task_id))


async def _execute(task_id: UUID) -> None:
    (task,) = leases.claim("api", f"dying-{os.getpid()}", task_id=task_id)
    async with ProviderPool() as pool:
        leases.complete(task.lease, await pool.execute(task, lambda _: None))
