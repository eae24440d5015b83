"""The flow `maintenance`: what nobody else does while all is well, every few minutes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow, get_client, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows import api, fleet, mending, requests, schedules
from flows.controls import WORKERS
from tasks_lib import database, retention
from tasks_lib.queue import wakeup

LOOK_BACK = timedelta(days=2)
# As prefect.yaml says.
MINUTES_BETWEEN_RUNS = 2
PLATFORM = {"maintenance", *WORKERS.values()}
"""Deployments whose missed times are nobody's loss."""


@flow(name="maintenance", persist_result=False)
async def maintenance() -> State[Any] | None:
    """Take back what dead workers hold, start missing workers, close the runs of the dead, and delete what is old."""
    if later := await asyncio.to_thread(_later_run):
        return Cancelled(message=f"the run of {later:%H:%M:%S} does it")
    await rescue()
    await keep_workers()
    await close_runs_of_the_dead()
    await account_for_schedules()
    await asyncio.to_thread(wakeup.end_deaf_listeners)
    if runtime.flow_run.scheduled_start_time.minute < MINUTES_BETWEEN_RUNS:
        await prune()
    return None


def _later_run() -> datetime | None:
    if not runtime.deployment.id:
        return None
    with api.client() as client:
        planned = runtime.flow_run.scheduled_start_time
        return schedules.superseded_by(client, str(runtime.deployment.id), planned, datetime.now(UTC))


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
async def account_for_schedules() -> int:
    """See to it that each planned time has its run, or its report, and that batches whose process died go on."""
    return await asyncio.to_thread(_account_for_schedules)


def _account_for_schedules() -> int:
    now = datetime.now(UTC)
    with api.client() as client:
        deployments = [row for row in schedules.registered(client) if row["name"] not in PLATFORM]
        lost = sum(schedules.resume_lost(client, row, now) for row in deployments if row["name"] == "scheduled-batch")
        return lost + schedules.account(client, deployments, now)


@task(persist_result=False, cache_policy=NO_CACHE)
async def prune() -> str:
    """Once an hour: delete finished tasks, events, files and answers that are over their age."""
    requests.prune_answers()
    return str(await asyncio.to_thread(retention.prune))
