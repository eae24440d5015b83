"""Keeping enough worker flows alive for the work that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa

from flows import api
from tasks_lib import database
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings
from tasks_lib.types.registry import task_types

WORKERS = {"gpu": "gpu-worker", "api": "api-worker"}


def ensure_workers(
    run_types: Sequence[str] = tuple(WORKERS), minimum: Mapping[str, int] | None = None, api_url: str | None = None
) -> list[str]:
    """Start the worker flows that the backlog wants and that neither live nor are on their way; answer their names."""
    started: list[str] = []
    with api.client(api_url) as client:
        for run_type in run_types:
            with database.transaction() as connection:
                # Two that look at once would both start one: the second leaves it to the first.
                lock = sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended('unitask.fleet.' || :pool, 0))")
                if connection.scalar(lock, {"pool": run_type}):
                    missing = _missing(client, run_type, (minimum or {}).get(run_type, 0))
                    started += [_start(client, run_type) for _ in range(missing)]
    return started


def start_worker(run_type: str) -> str:
    """Ask Prefect for one more worker flow of a pool; answer the run's name."""
    with api.client() as client:
        return _start(client, run_type)


def _missing(client: httpx.Client, run_type: str, minimum: int) -> int:
    settings = get_settings()
    limit = settings.gpu_workers if run_type == "gpu" else settings.api_workers
    wanted = min(limit, max(minimum, leases.backlog(run_type, [*task_types()])))
    if not wanted:
        return 0
    # A dead worker's run can stay Running for ever, so the living are counted by their heartbeats; only what has not
    # had its first one yet is Prefect's to tell.
    alive = leases.live_workers(run_type)
    return wanted - len(alive) - len(_coming(client, run_type))


def _coming(client: httpx.Client, run_type: str) -> list[UUID]:
    """Runs of a pool's worker flow that are on their way, up to their first heartbeat."""
    body = {
        "deployments": {"id": {"any_": [_deployment(client, run_type)["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
    }
    runs = client.post("/flow_runs/filter", json=body).raise_for_status().json()
    ids = [UUID(run["id"]) for run in runs]
    known = leases.known_workers(ids)
    return [run_id for run_id in ids if run_id not in known]


def _start(client: httpx.Client, run_type: str) -> str:
    deployment = _deployment(client, run_type)
    body = {"state": {"type": "SCHEDULED"}}
    run = client.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status().json()
    return str(run["name"])


def _deployment(client: httpx.Client, run_type: str) -> dict[str, Any]:
    name = WORKERS[run_type]
    found: dict[str, Any] = client.get(f"/deployments/name/{name}/{name}").raise_for_status().json()
    return found
