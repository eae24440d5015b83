"""The flow `maintenance`: what nobody else does while all is well, every few minutes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prefect import flow, get_client, runtime, task
from prefect.cache_policies import NO_CACHE

from flows import fleet, mending
from tasks_lib import database, retention
from tasks_lib.queue import wakeup

LOOK_BACK = timedelta(days=2)
# As prefect.yaml says.
MINUTES_BETWEEN_RUNS = 2


@flow(name="maintenance", persist_result=False)
async def maintenance() -> None:
    """Take back what dead workers hold, start missing workers, close the runs of the dead, and delete what is old."""
    await rescue()
    await keep_workers()
    await close_runs_of_the_dead()
    await asyncio.to_thread(wakeup.end_deaf_listeners)
    if runtime.flow_run.scheduled_start_time.minute < MINUTES_BETWEEN_RUNS:
        await prune()


@task(persist_result=False, cache_policy=NO_CACHE)
async def rescue() -> int:
    """Claims do this too; here it also happens when nobody claims."""
    return int(await asyncio.to_thread(database.scalar, "rescue_tasks"))


@task(persist_result=False, cache_policy=NO_CACHE)
async def keep_workers() -> int:
    """Start the worker flows that the backlog wants."""
    return len(await asyncio.to_thread(fleet.ensure_workers))


@task(persist_result=False, cache_policy=NO_CACHE)
async def close_runs_of_the_dead() -> int:
    """End the runs that Prefect shows as open although their row, or their worker, has ended."""
    async with get_client() as client:
        return await mending.close_stale_runs(client, LOOK_BACK)


@task(persist_result=False, cache_policy=NO_CACHE)
async def prune() -> str:
    """Once an hour: delete finished tasks, events and files that are over their age."""
    return str(await asyncio.to_thread(retention.prune))
