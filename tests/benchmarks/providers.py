"""How long 200 tasks take at a provider that needs 2 s for each, 50 at once: `python -m tests.benchmarks.providers`.

The floor is 8 s. Everything is real but the provider: Postgres, the worker's loop, HTTP, the files.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from db import embedded
from db.engine import create_engine
from db.migrate import upgrade
from tasks_lib import create_tasks, database, list_tasks
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.providers.simulator import Simulator
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Worker
from tasks_lib.settings import get_settings
from tasks_lib.types import registry
from tests.conftest import make_owner

TASKS = 200
AT_ONCE = 50
LATENCY = 2.0


async def _work() -> None:
    bell = Bell()
    async with ProviderPool() as pool:
        worker = Worker("api", "api-bench", AT_ONCE, pool.execute, bell)
        running = asyncio.create_task(worker.run())
        while await asyncio.to_thread(lambda: len(list_tasks(status="Complete", limit=TASKS))) < TASKS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        worker.drain("done")
        await running


def main() -> None:
    """Print the seconds from the first claim to the last completion."""
    with tempfile.TemporaryDirectory(prefix="unitask-bench-") as folder, Simulator(LATENCY).serving() as sim:
        home = Path(folder)
        os.environ |= {
            "UNITASK_HOME": folder,
            "UNITASK_DATABASE_URL": embedded.ensure_database(embedded.start(home), "bench"),
            "UNITASK_FAL_KEY": "any",
            "UNITASK_FAL_URL": sim.url,
            "UNITASK_FAL_CONCURRENCY": str(AT_ONCE),
            "UNITASK_ALLOW_PRIVATE_URLS": "true",
        }
        try:
            upgrade(database.database_url())
            engine = create_engine(database.database_url())
            registry.sync(engine)
            engine.dispose()
            owner = make_owner()
            os.environ["UNITASK_TOKEN"] = owner.token
            row = {"task_type": "qwen_image", "params": {"prompt": "a walk"}, "project_id": owner.project_id}
            get_settings.cache_clear()
            create_tasks([row] * TASKS)
            started = time.monotonic()
            asyncio.run(_work())
            seconds = time.monotonic() - started
            floor = TASKS * LATENCY / AT_ONCE
            print(
                f"{TASKS} tasks of {LATENCY} s, {AT_ONCE} at once: {seconds:.1f} s ({seconds / floor:.2f} of the floor)"
            )
            print(f"jobs made: {len(sim.jobs)}; at once at the most: {sim.most('fal')}")
        finally:
            database.get_engine().dispose()
            embedded.stop(home)


if __name__ == "__main__":
    main()
