"""How long 200 tasks take at a provider that needs 2 s for each, 50 at once, in one worker. The floor is 8 s.

Once with a slot for each of the 50, and once with more slots than the provider takes jobs.

Everything is real but the provider, which is a process of its own: Postgres, the worker's loop, HTTP, the files.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2
import sqlalchemy as sa

from db import embedded, tables
from db.engine import create_engine
from db.migrate import upgrade
from tasks_lib import create_tasks, database
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Worker
from tasks_lib.settings import get_settings
from tasks_lib.types import table
from tests.conftest import make_owner

TASKS = 200
AT_ONCE = 50
LATENCY = 2.0


@contextmanager
def provider(latency: float, late_cost: int = 0) -> Iterator[str]:
    """The provider for trials as a process of its own; gives its URL."""
    program = "from tasks_lib.cli import main; main()"
    command = [sys.executable, "-c", program, "provider-sim", "--port", "0", "--latency", str(latency)]
    command += ["--late-cost", str(late_cost)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(" listens at ")[1].split(";")[0]
        finally:
            process.terminate()


@contextmanager
def platform(url: str) -> Iterator[None]:
    """A Postgres of its own and settings that send everything to the provider at `url`."""
    with tempfile.TemporaryDirectory(prefix="unitask-bench-") as folder:
        home = Path(folder)
        os.environ |= {
            "UNITASK_HOME": folder,
            "UNITASK_DATABASE_URL": embedded.ensure_database(embedded.start(home), "bench"),
            "UNITASK_FAL_KEY": "any",
            "UNITASK_FAL_URL": url,
            "UNITASK_REPLICATE_TOKEN": "any",
            "UNITASK_REPLICATE_URL": url,
            "UNITASK_FAL_CONCURRENCY": str(AT_ONCE),
            "UNITASK_ALLOW_PRIVATE_URLS": "true",
        }
        get_settings.cache_clear()
        try:
            upgrade(database.database_url())
            engine = create_engine(database.database_url())
            table.sync(engine)
            engine.dispose()
            yield
        finally:
            database.get_engine().dispose()
            database.get_engine.cache_clear()
            embedded.stop(home)


async def _work(slots: int) -> tuple[float, float]:
    """Seconds from the first claim to the last completion, and seconds of this process's CPU."""
    bell = Bell()
    async with ProviderPool(slots=slots, slot_is_free=partial(bell.ring, "api")) as pool:
        worker = Worker("api", "api-bench", slots, pool.execute, bell, room=pool.room)
        began, cpu = time.monotonic(), time.process_time()
        running = asyncio.create_task(worker.run())
        while worker.done < TASKS or _unfinished():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        took = time.monotonic() - began, time.process_time() - cpu
        worker.drain("done")
        await running
    return took


def _unfinished() -> bool:
    """Whether tasks have not ended; some that did at the worker were only handed back."""
    t = tables.tasks
    with database.transaction() as connection:
        return bool(connection.scalar(sa.select(sa.exists().where(t.c.finished_at.is_(None)))))


def run() -> None:
    """Print how long it took, beside the floor."""
    for slots in (AT_ONCE, 3 * AT_ONCE // 2):
        _run(slots)


def _run(slots: int) -> None:
    with provider(LATENCY) as url, platform(url):
        owner = make_owner()
        os.environ["UNITASK_TOKEN"] = owner.token
        get_settings.cache_clear()
        row = {"task_type": "qwen_image", "params": {"prompt": "a walk"}, "project_id": owner.project_id}
        create_tasks([row] * TASKS)
        seconds, cpu = asyncio.run(_work(slots))
        floor = TASKS * LATENCY / AT_ONCE
        print(f"{TASKS} tasks of {LATENCY} s, {AT_ONCE} at once, {slots} slots: ", end="")
        print(f"{seconds:.1f} s ({seconds / floor:.2f} of the floor)")
        print(f"CPU of the worker: {1000 * cpu / TASKS:.0f} ms a task")
        print(f"jobs made: {len(httpx2.get(f'{url}/_sim/jobs').json())}")


if __name__ == "__main__":
    run()
