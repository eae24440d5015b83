"""Webhooks over a real socket: good ones bring the result at once, all others change nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from db import tables
from tasks_lib import database, get_task
from tasks_lib.providers import webhooks
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.providers.simulator import Call, Fault, SimJob, Simulator
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.integration.providers.conftest import create, job_rows, ledger, run_to_end, until

BOTH = pytest.mark.parametrize("provider", ["replicate", "fal"])


@pytest.fixture
def receiver(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The receiver's address; the pool tells it to the provider, and looks at jobs by itself only after minutes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("UNITASK_WEBHOOK_URL", url)
        monkeypatch.setenv("UNITASK_FAL_JWKS_URL", f"{sim.url}/.well-known/jwks.json")
        monkeypatch.setenv("UNITASK_PROVIDER_POLL_SECONDS", "60")
        get_settings.cache_clear()
        server = uvicorn.Server(uvicorn.Config(webhooks.create_app(), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(10)


def contents() -> dict[str, Any]:
    """Every row of every table."""
    with database.transaction() as connection:
        return {
            name: connection.execute(sa.select(table).order_by(*table.primary_key)).all()
            for name, table in tables.metadata.tables.items()
            if name != "workers"
        }


def send(sim: Simulator, address: str, job: SimJob, *, at: float | None = None, **changed: str) -> int:
    """Send the webhook of a job, with headers that are changed (by their last word); the status of the answer."""
    name = "id" if job.dialect == "replicate" else "request_id"
    body = json.dumps({name: job.id, "status": "succeeded"}).encode()
    headers = sim.webhooks.headers(job.dialect, job.id, body, at)
    for header in headers:
        headers[header] = changed.get(header.rpartition("-")[2], headers[header])
    return httpx.post(address, content=body, headers=headers).status_code


def running_job(sim: Simulator, owner: Owner, provider: str) -> SimJob:
    """A job that runs at the provider, whose worker is gone."""
    sim.latency = 600
    task_id = create(owner, provider)

    async def main() -> None:
        (task,) = leases.claim("api", "soon-gone", task_id=task_id)
        async with ProviderPool() as pool:
            executing = asyncio.create_task(pool.execute(task, lambda _: None))
            await until(lambda: any(row["job_id"] for row in job_rows()))
            executing.cancel()
            await asyncio.wait([executing])

    asyncio.run(main())
    (job,) = sim.jobs.values()
    return job


def test_results_are_fetched_when_their_webhooks_come(sim: Simulator, owner: Owner, receiver: str) -> None:
    sim.latency = 0.3
    manners: list[Fault | None] = [None, "twice", "out_of_order"]
    task_ids = []
    for provider in ("replicate", "fal"):
        for manner in manners:
            prompt = f"{provider} {manner}"
            if manner:
                call: Call = "webhook"
                sim.fault(call, manner, prompt=prompt)
            task_ids.append(create(owner, provider, prompt=prompt))
    began = time.monotonic()
    run_to_end(*task_ids)
    # The first look without a webhook is four minutes away.
    assert time.monotonic() - began < 60
    assert {get_task(task_id).status for task_id in task_ids} == {"Complete"}
    assert [ledger(task_id) for task_id in task_ids] == [{"hold", "capture"}] * len(task_ids)
    assert len(sim.jobs) == len(task_ids)


def test_result_is_found_by_looking_when_its_webhook_is_lost(
    sim: Simulator, owner: Owner, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_PROVIDER_POLL_SECONDS", "0.05")
    get_settings.cache_clear()
    sim.fault("webhook", "lost")
    task_id = create(owner, "fal")
    run_to_end(task_id)
    assert get_task(task_id).status == "Complete"


@BOTH
def test_webhook_is_refused_and_changes_nothing_when_it_is_not_good(
    sim: Simulator, owner: Owner, receiver: str, provider: str
) -> None:
    job = running_job(sim, owner, provider)
    before = contents()
    address = f"{receiver}/webhooks/{provider}"
    assert send(sim, address, job, signature="v1,bm8=") == 401
    assert send(sim, address, job, signature="00" * 64) == 401
    assert send(sim, address, job, signature="") == 401
    assert send(sim, address, job, id="another") == 401
    assert send(sim, address, job, timestamp=str(int(time.time()) - 1)) == 401
    assert send(sim, address, job, timestamp="soon") == 401
    assert send(sim, address, job, at=time.time() - 301) == 401
    # A busy machine may take a minute to deliver it.
    assert send(sim, address, job, at=time.time() + 360) == 401
    stranger = SimJob(uuid4().hex, provider, "a/model", {}, "", "", None, 0, 0)
    assert send(sim, address, stranger) == 404
    assert send(sim, f"{receiver}/webhooks/elsewhere", job) == 404
    assert send(sim, f"{receiver}/webhooks/{provider}/{owner.user_id}", job) == 404
    assert httpx.post(address, content=b"x" * (17 << 20)).status_code == 413
    assert contents() == before


@BOTH
def test_good_webhook_is_not_believed_when_the_provider_says_otherwise(
    sim: Simulator, owner: Owner, receiver: str, provider: str
) -> None:
    job = running_job(sim, owner, provider)
    before = contents()
    assert send(sim, f"{receiver}/webhooks/{provider}", job) == 204
    assert contents() == before


def test_webhook_is_taken_when_the_secret_was_exchanged(
    sim: Simulator, owner: Owner, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running_job(sim, owner, "replicate")
    address = f"{receiver}/webhooks/replicate"
    assert send(sim, address, job) == 204
    sim.webhooks.secret = "whsec_bmV3"
    assert send(sim, address, job) == 401
    monkeypatch.setattr(webhooks, "KEYS_AGAIN_SECONDS", 0.0)
    assert send(sim, address, job) == 204
