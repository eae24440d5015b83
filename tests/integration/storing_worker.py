"""A worker of the gpu pool whose tasks only store a file: `python -m tests.integration.storing_worker`."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from tasks_lib import storage
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Report, Worker

BYTES = 100_000


async def store(task: ClaimedTask, report: Report) -> Output:
    key = storage.output_key(task.project_id, task.id, task.lease_id, "film.mp4")
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(BYTES))
        file.flush()
        await asyncio.to_thread(storage.put, Path(file.name), key)
    return Output(key)


if __name__ == "__main__":
    asyncio.run(Worker("gpu", f"storing-{os.getpid()}", 2, store, Bell()).run())
