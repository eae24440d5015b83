"""A worker of the api pool as a process of its own: tasks of providers, and orchestrators to host."""

from __future__ import annotations

import asyncio
import os
from functools import partial

from tasks_lib.creation import plant_children
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.queue import ClaimedTask
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import Watcher, children_of
from tasks_lib.queue.worker import Worker
from tasks_lib.settings import get_settings


async def work() -> None:
    """Work until killed."""
    bell = Bell()
    watcher = Watcher(bell)

    async def host(task: ClaimedTask) -> None:
        await asyncio.to_thread(plant_children, task)
        await asyncio.gather(*(watcher.ended(child.id) for child in await asyncio.to_thread(children_of, task.id)))
        await watcher.ended(task.id)

    async with ProviderPool(slot_is_free=partial(bell.ring, "api")) as pool:
        worker = Worker("api", f"api-{os.getpid()}", get_settings().api_slots, pool.execute, bell, host, room=pool.room)
        await asyncio.gather(bell.listen(), watcher.run(), worker.run())


if __name__ == "__main__":
    asyncio.run(work())
