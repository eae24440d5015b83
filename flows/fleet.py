"""Keeping enough worker flows alive for the work that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa

from flows import api
from flows.controls import WORKERS, Controls, read_controls
from tasks_lib import database
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings
from tasks_lib.types.registry import task_types


def ensure_workers(
    run_types: Sequence[str] = tuple(WORKERS), minimum: Mapping[str, int] | None = None, api_url: str | None = None
) -> list[str]:
    """Start the worker flows that the backlog wants and that neither live nor are on their way; answer their names.

    None is started for a pool that is paused: it would wait there, and so would the next. A limit of Prefect's bounds
    them as our own does.
    """
    started: list[str] = []
    with api.client(api_url) as client:
        for run_type in run_types:
            with database.transaction() as connection:
                # Two that look at once would both start one: the second leaves it to the first.
                if connection.scalar(sa.text("SELECT unitask.lock_fleet(:pool)"), {"pool": run_type}):
                    missing = _missing(client, run_type, (minimum or {}).get(run_type, 0))
                    started += [_start(client, run_type) for _ in range(missing)]
    return started


def replace_worker(run_type: str) -> str | None:
    """Ask Prefect for the successor of a worker flow that ends; answer its run's name, or None in a pause."""
    with api.client() as client:
        controls = read_controls(client, run_type)
        if controls.paused or controls.missing or not most_workers(controls, run_type):
            return None
        return _start(client, run_type)


def most_workers(controls: Controls, run_type: str) -> int:
    """How many worker flows of a pool may live: what the settings say, or a limit of Prefect's that is lower."""
    settings = get_settings()
    own = settings.gpu_workers if run_type == "gpu" else settings.api_workers
    return own if controls.limit is None else min(own, controls.limit)


def _missing(client: httpx.Client, run_type: str, minimum: int) -> int:
    controls = read_controls(client, run_type)
    if controls.paused or controls.missing:
        return 0
    wanted = min(most_workers(controls, run_type), max(minimum, leases.backlog(run_type, [*task_types()])))
    if not wanted:
        return 0
    # A dead worker's run can stay Running for ever, so the living are counted by their heartbeats; only what has not
    # had its first one yet is Prefect's to tell.
    alive = leases.live_workers(run_type)
    return wanted - len(alive) - len(coming_workers(client, run_type))


def coming_workers(client: httpx.Client, run_type: str) -> list[UUID]:
    """Return the runs of a pool's worker flow that are on their way, up to their first heartbeat."""
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
