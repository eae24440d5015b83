"""What people have set in Prefect for a pool's worker flows: pauses and limits of its pool, queue and deployment.

Prefect enforces them only when it starts a run. A worker flow lives for hours, so it reads them itself, every few
seconds. While Prefect is away the last answer holds: claiming waits for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from tasks_lib.queue import leases
from tasks_lib.queue.worker import Worker

WORKERS = {"gpu": "gpu-worker", "api": "api-worker"}
"""The deployment (and flow) of each pool's worker flows."""


@dataclass(frozen=True)
class Controls:
    """The pauses in force, each with what lifts it; the limits, by name; and what is not there, in words."""

    paused: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    missing: str = ""

    @property
    def limit(self) -> int | None:
        """How many worker flows may live; None if nothing bounds them."""
        return min(self.limits.values(), default=None)

    @property
    def limited_by(self) -> str:
        """The name of what has the lowest limit."""
        return min(self.limits, key=lambda name: self.limits[name], default="")


def read_controls(client: httpx.Client, run_type: str) -> Controls:
    """Return the controls of a pool's worker flows, from wherever their deployment sends them."""
    name = WORKERS[run_type]
    deployment = find(client, f"/deployments/name/{name}/{name}")
    if deployment is None:
        return Controls(missing=f"the deployment `{name}` is not there; `unitask deploy` registers it")
    pool, queue = deployment["work_pool_name"], deployment["work_queue_name"]
    if not pool:
        return Controls(missing=f"the deployment `{name}` has no work pool; `unitask deploy` makes it")
    paused, limits = {}, {}
    for what, path, resume in (
        (f"work pool `{pool}`", f"/work_pools/{pool}", f"`prefect work-pool resume {pool}`"),
        (
            f"work queue `{queue}` of `{pool}`",
            f"/work_pools/{pool}/queues/{queue}",
            f"`prefect work-queue resume {queue} --pool {pool}`",
        ),
    ):
        row = find(client, path) or {}
        if row.get("is_paused"):
            paused[what] = resume
        if (most := row.get("concurrency_limit")) is not None:
            limits[what] = most
    if deployment["paused"]:
        paused[f"deployment `{name}`"] = "switch it on in Prefect, on its page"
    if (limit := deployment["global_concurrency_limit"]) and limit["active"]:
        limits[f"deployment `{name}`"] = limit["limit"]
    return Controls(paused, limits)


def find(client: httpx.Client, path: str) -> dict[str, Any] | None:
    """Return what the API has at `path`, or None if there is nothing."""
    answer = client.get(path)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


async def follow_controls(client: httpx.Client, worker: Worker, run_id: UUID) -> None:
    """Read the controls once, and apply them to the worker that is the flow run `run_id`."""
    controls, surplus = await asyncio.to_thread(_read_for_worker, client, worker.run_type, run_id)
    reason = f"the {controls.limited_by} has a limit of {controls.limit}" if surplus else ""
    worker.restrict(paused=bool(controls.paused), retiring=reason)


def _read_for_worker(client: httpx.Client, run_type: str, run_id: UUID) -> tuple[Controls, bool]:
    controls = read_controls(client, run_type)
    if controls.limit is None:
        return controls, False
    # The newest stay: one that ends because its renewal is due is the oldest, and its successor lives already.
    live = leases.live_workers(run_type)
    return controls, (live.index(run_id) if run_id in live else 0) >= controls.limit
