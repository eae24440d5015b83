"""The worker flow of the pool `api`: external APIs, many at once, and orchestrators, which take no slot."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.worker import name_of_worker, run_worker, use_login_of_workers
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.queue.listening import Bell
from tasks_lib.settings import get_settings


@flow(name="api-worker", flow_run_name=name_of_worker("api"), persist_result=False)
async def api_worker() -> State[Any]:
    """Claim and run api tasks, and host orchestrators, until there have been none for a while."""
    use_login_of_workers()
    bell = Bell()
    async with ProviderPool(slot_is_free=partial(bell.ring, "api")) as pool:
        return await run_worker("api", get_settings().api_slots, pool.execute, hosts=True, room=pool.room, bell=bell)
