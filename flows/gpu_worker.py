"""The worker flow of the pool `gpu`: tasks run on engines that stay loaded, each in a process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.worker import name_of_worker, run_worker, use_login_of_workers
from tasks_lib.engines.process import EngineProcess
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.queue.worker import Report
from tasks_lib.settings import get_settings


@flow(name="gpu-worker", flow_run_name=name_of_worker("gpu"), persist_result=False)
async def gpu_worker() -> State[Any]:
    """Claim and run gpu tasks until there have been none for a while, or renewal is due."""
    use_login_of_workers()
    engines = [EngineProcess() for _ in range(get_settings().gpu_slots)]
    free = [*engines]

    async def execute(task: ClaimedTask, report: Report) -> Output:
        engine = next((engine for engine in free if task.model in engine.models), free[-1])
        free.remove(engine)
        try:
            return await engine.execute(task, report)
        finally:
            free.append(engine)

    try:
        await asyncio.gather(*(engine.start() for engine in engines))
        return await run_worker("gpu", len(engines), execute, models=lambda: [m for e in engines for m in e.models])
    finally:
        for engine in engines:
            engine.kill()
