"""Making Prefect's picture true again where a process died, or Prefect was away, at the wrong moment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State

from db import tables
from flows.runs import OPEN, close_flow_run, state_like
from tasks_lib import database
from tasks_lib.queue import leases
from tasks_lib.queue.watching import child_name

# A host that lives closes its own run in this time.
GRACE = timedelta(seconds=15)
PAGE = 200


@dataclass(frozen=True)
class EndedRow:
    """A hosted task that has ended, and how."""

    task_id: UUID
    flow_run_id: UUID
    status: str
    error_message: str | None


async def close_stale_runs(client: PrefectClient, look_back: timedelta) -> int:
    """Close runs of tasks that have ended lately, and of workers that are dead; answer how many were open."""
    closed = 0
    for worker_run in await asyncio.to_thread(leases.dead_workers):
        closed += await close_flow_run(client, worker_run, "its process is gone")
    ended = await asyncio.to_thread(_ended_rows, look_back)
    for start in range(0, len(ended), PAGE):
        page = {row.flow_run_id: row for row in ended[start : start + PAGE]}
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=list(page)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN)),
            )
        )
        for run in runs:
            row = page[run.id]
            children = await asyncio.to_thread(_child_states, row.task_id)
            await close_flow_run(
                client, run.id, "its process is gone", state_like(row.status, row.error_message), children
            )
        closed += len(runs)
    return closed


def _ended_rows(look_back: timedelta) -> list[EndedRow]:
    t = tables.tasks
    now = sa.func.now()
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(t.c.id.label("task_id"), t.c.flow_run_id, t.c.status, t.c.error_message).where(
                t.c.flow_run_id.is_not(None), t.c.finished_at.between(now - look_back, now - GRACE)
            )
        )
        return [EndedRow(**row) for row in rows.mappings()]


def _child_states(task_id: UUID) -> dict[str, State[Any]]:
    t = tables.tasks
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(t.c.id, t.c.task_type, t.c.child_key, t.c.status, t.c.error_message).where(
                t.c.parent_task_id == task_id, t.c.finished_at.is_not(None)
            )
        )
        return {
            child_name(row.task_type, row.child_key, row.id): state_like(row.status, row.error_message) for row in rows
        }
