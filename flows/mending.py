"""Making Prefect's picture true again where a process died, or Prefect was away, at the wrong moment."""

from __future__ import annotations

import asyncio
from uuid import UUID

import sqlalchemy as sa
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType

from db import tables
from flows.runs import OPEN, close_flow_run, state_like
from tasks_lib import database
from tasks_lib.queue import leases

LOOK_BACK = sa.text("interval '2 days'")
PAGE = 200


async def close_stale_runs(client: PrefectClient) -> int:
    """Close runs of tasks that have ended and of workers that are dead; answer how many were open."""
    closed = 0
    for worker_run in await asyncio.to_thread(leases.dead_workers):
        closed += await close_flow_run(client, worker_run, "its process is gone")
    ended = await asyncio.to_thread(_ended_tasks)
    for start in range(0, len(ended), PAGE):
        page = dict(ended[start : start + PAGE])
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=list(page)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN)),
            )
        )
        for run in runs:
            await client.set_flow_run_state(run.id, state_like(*page[run.id]), force=True)
        closed += len(runs)
    return closed


def _ended_tasks() -> list[tuple[UUID, tuple[str, str | None]]]:
    """Hosted tasks that ended lately, as (flow run id, (status, reason))."""
    t = tables.tasks
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(t.c.flow_run_id, t.c.status, t.c.error_message).where(
                t.c.flow_run_id.is_not(None),
                # A host that lives closes its own run within a moment.
                t.c.finished_at.between(sa.func.now() - LOOK_BACK, sa.func.now() - sa.text("interval '1 minute'")),
            )
        )
        return [(row.flow_run_id, (row.status, row.error_message)) for row in rows]
