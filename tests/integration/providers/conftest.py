"""Tasks of the api pool on a real Postgres, a real worker loop and a provider that is a real HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import create_task, database, get_task
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.providers.simulator import Simulator
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Host, Worker
from tasks_lib.settings import get_settings
from tests.conftest import Owner

KEY = "key-that-nobody-may-see-7391"

SETTINGS = {
    "REPLICATE_TOKEN": KEY,
    "FAL_KEY": KEY,
    "ALLOW_PRIVATE_URLS": "true",
    "LEASE_SECONDS": "3",
    "HEARTBEAT_SECONDS": "0.3",
    "POLL_SECONDS": "0.2",
    "DRAIN_SECONDS": "1",
    "PROVIDER_POLL_SECONDS": "0.05",
    "PROVIDER_CALL_SECONDS": "2",
    "PROVIDER_WAIT_SECONDS": "2",
    "DOWNLOAD_SECONDS": "4",
}


@pytest.fixture
def sim(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A provider that both dialects' settings point at, and short limits."""
    with Simulator().serving() as simulator:
        for name, value in SETTINGS.items():
            monkeypatch.setenv(f"UNITASK_{name}", value)
        monkeypatch.setenv("UNITASK_REPLICATE_URL", simulator.url)
        monkeypatch.setenv("UNITASK_FAL_URL", simulator.url)
        get_settings.cache_clear()
        yield simulator


PARAMS: dict[str, dict[str, Any]] = {
    "fal": {"task_type": "qwen_image", "params": {"prompt": "a walk"}},
    "replicate": {"task_type": "magic_edit", "params": {"prompt": "a walk", "image_url": "https://example.com/0.jpg"}},
}


def create(owner: Owner, provider: str, **params: Any) -> UUID:
    """A task that the provider serves by default."""
    given = PARAMS[provider]
    return create_task(given["task_type"], {**given["params"], **params}, project_id=owner.project_id).task_id


@asynccontextmanager
async def working(slots: int = 8, host: Host | None = None) -> AsyncIterator[ProviderPool]:
    """An api worker at work; it is drained at the end."""
    bell = Bell()
    async with ProviderPool(slots=slots, slot_is_free=partial(bell.ring, "api")) as pool:
        worker = Worker("api", f"api-{uuid4()}", slots, pool.execute, bell, host, room=pool.room)
        running = asyncio.create_task(worker.run())
        try:
            yield pool
        finally:
            worker.drain("the test is over")
            await running


async def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not (found := await asyncio.to_thread(condition)):  # noqa: ASYNC110  nothing signals it
            await asyncio.sleep(0.03)
    return found


def run_to_end(*task_ids: UUID, slots: int = 8, seconds: float = 30) -> None:
    """Let a worker work until these tasks have ended."""

    async def main() -> None:
        async with working(slots):
            await until(lambda: all(get_task(task_id).is_final for task_id in task_ids), seconds)

    asyncio.run(main())


def job_rows() -> list[dict[str, Any]]:
    """The jobs as Postgres has them."""
    with database.transaction() as connection:
        rows = connection.execute(sa.select(tables.provider_jobs).order_by(tables.provider_jobs.c.created_at))
        return [dict(row) for row in rows.mappings()]


def ledger(task_id: UUID) -> set[str]:
    """The kinds of a task's ledger rows."""
    rows = tables.credit_ledger
    with database.transaction() as connection:
        return set(connection.scalars(sa.select(rows.c.kind).where(rows.c.task_id == task_id)))
