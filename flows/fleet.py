"""Keeping enough worker flows alive for the work that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import sqlalchemy as sa
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from tasks_lib import database
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings

DEPLOYMENTS = {"gpu": "gpu-worker/gpu-worker", "api": "api-worker/api-worker"}


async def ensure_workers(
    run_types: Sequence[str] = ("gpu", "api"), minimum: Mapping[str, int] | None = None
) -> list[FlowRun]:
    """Start the worker flows that the backlog wants and that do not live or come already; answer those started."""
    started: list[FlowRun] = []
    async with get_client() as client:
        for run_type in run_types:
            with database.transaction() as connection:
                # Two that look at once would both start one: the second leaves it to the first.
                if connection.scalar(
                    sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended('unitask.fleet.' || :pool, 0))"),
                    {"pool": run_type},
                ):
                    started += await _ensure(client, run_type, (minimum or {}).get(run_type, 0))
    return started


async def start_worker(client: PrefectClient, run_type: str) -> FlowRun:
    """Ask Prefect for one more worker flow of a pool."""
    deployment = await client.read_deployment_by_name(DEPLOYMENTS[run_type])
    return await client.create_flow_run_from_deployment(deployment.id)


async def _ensure(client: PrefectClient, run_type: str, minimum: int) -> list[FlowRun]:
    settings = get_settings()
    limit = settings.gpu_workers if run_type == "gpu" else settings.api_workers
    wanted = min(limit, max(minimum, leases.backlog(run_type)))
    if not wanted:
        return []
    # A dead worker's run can stay Running for ever, so the living are counted by their heartbeats; only what has
    # not started yet is Prefect's to tell.
    alive = set(leases.live_workers(run_type))
    coming = [run_id for run_id in await _coming(client, run_type) if run_id not in alive]
    missing = wanted - len(alive) - len(coming)
    return [await start_worker(client, run_type) for _ in range(missing)]


async def _coming(client: PrefectClient, run_type: str) -> list[UUID]:
    """Runs of a pool's worker flow that are on their way, up to their first heartbeat."""
    deployment = await client.read_deployment_by_name(DEPLOYMENTS[run_type])
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
            )
        ),
    )
    known = leases.known_workers([run.id for run in runs])
    return [run.id for run in runs if run.id not in known]
