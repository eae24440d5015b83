"""What the crash tests run in processes of their own: `python -m tests.crash.process <what> <arguments>`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from tasks_lib import create_tasks, database
from tasks_lib.creation import plant_children
from tasks_lib.engines.process import EngineProcess
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import Watcher
from tasks_lib.queue.worker import Report, Worker


async def work(run_type: str, engine: EngineProcess | None = None) -> None:
    """Be a worker of a pool until killed or cancelled; the gpu pool's has an engine process."""
    bell = Bell()
    watcher = Watcher(bell)
    made = engine or EngineProcess()

    async def no_work(task: ClaimedTask, report: Report) -> Output:
        raise AssertionError(f"{task.name} is no work for the api pool")

    async def host(task: ClaimedTask) -> None:
        await asyncio.to_thread(plant_children, task)
        await watcher.ended(task.id)

    worker_id = f"{run_type}-{os.getpid()}-{os.urandom(2).hex()}"
    if run_type == "gpu":
        worker = Worker("gpu", worker_id, 1, made.execute, bell)
    else:
        worker = Worker("api", worker_id, 4, no_work, bell, host)
    try:
        # A group waits for all of them to end; `gather` would leave the worker behind when it is cancelled.
        async with asyncio.TaskGroup() as group:
            for coroutine in (bell.listen(), watcher.run(), worker.run()):
                group.create_task(coroutine)
    finally:
        if engine is None:
            made.kill()


def main(what: str, *arguments: str) -> Any:
    """Work in a pool, create a batch, or call an SQL function."""
    if what == "work":
        return asyncio.run(work(arguments[0]))
    if what == "create":
        return create_tasks(json.loads(arguments[0]))
    return database.call(what, **json.loads(arguments[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
