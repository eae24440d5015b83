"""Keeping Prefect's picture and the table one: what people click there counts here, and what ended here is shown there.

A host does most of that for the runs that it shows. This is for all others: runs that have no process, not yet or no
longer, and those that were cancelled, tried again or changed at a moment when nobody looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Failed, Running

from db import tables
from flows.runs import OPEN, PAGE, close_flow_run, close_task_runs, state_like
from tasks_lib import database
from tasks_lib.errors import TaskError
from tasks_lib.events import FINAL
from tasks_lib.queue import leases
from tasks_lib.queue.watching import child_name

# A host that lives closes its own run in this time.
GRACE = timedelta(seconds=15)
FINAL_STATES = [StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED]


GONE = "its process is gone"
CANCELLED = "cancelled in the Prefect UI"
CANNOT_PAUSE = "what is asked for once cannot be paused: pause the work pool `gpu` or `api`, and its tasks wait"
CANNOT_END = "its task goes on: cancel the run, or let it end"
HAD_ENDED = "it had ended before its run was {}; it is {}"
# So long after the end of a row its host may still be about to end the run.
SETTLING = timedelta(seconds=3)
LATELY = timedelta(minutes=1)
# Of our deployments; the client's own filters know no `or`.
ASKED = {
    "deployments": {"tags": {"all_": ["unitask"]}},
    "flow_runs": {
        "state": {
            "operator": "or_",
            "type": {"any_": ["CANCELLING", "PAUSED"]},
            "name": {"any_": ["AwaitingRetry", "Resuming"]},
        }
    },
}


async def follow_people(client: PrefectClient) -> None:
    """Let what people did to the runs of our deployments have its effect, and end runs whose tasks have ended."""
    for run in await _filter(client, ASKED):
        assert run.state is not None
        if run.state.is_cancelling():
            await _cancel(client, run)
        elif run.state.is_paused():
            if await asyncio.to_thread(_shows, run.id):
                await client.set_flow_run_state(run.id, Running(message=CANNOT_PAUSE), force=True)
        elif run.work_queue_id is None:
            await _try_again(client, run)
    await _cancel_what_lives(client)
    await _show_ends(client, LATELY)


async def reopen_ended(client: PrefectClient, is_followed: Callable[[UUID], bool], run_ids: list[UUID]) -> None:
    """Let runs go on that somebody has set to Completed or Failed while their tasks live and are followed here."""
    if not run_ids:
        return
    by_hand = FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED])
    for run in await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=run_ids), state=FlowRunFilterState(type=by_hand))
    ):
        # Whoever follows a run leaves it before it ends: an end that is seen while it is followed is not its own.
        if is_followed(run.id):
            await client.set_flow_run_state(run.id, Running(message=CANNOT_END), force=True)


async def _cancel(client: PrefectClient, run: FlowRun) -> None:
    """Cancel what a run has made or shows. One whose process never was, or is gone, ends here."""
    assert run.state is not None
    age = datetime.now(UTC) - run.state.timestamp
    await asyncio.to_thread(leases.cancel_of_run, run.id, CANCELLED, age.total_seconds())
    # A worker flow drains, and tells itself when it has.
    if age > GRACE and not await asyncio.to_thread(_is_followed, run.id):
        await client.set_flow_run_state(run.id, Cancelled(message=CANCELLED), force=True)


async def _try_again(client: PrefectClient, run: FlowRun) -> None:
    """Bring back the task of a run that has no process: whoever hosts it next goes on in this run."""
    try:
        task = await asyncio.to_thread(leases.retry_of_run, run.id)
    except TaskError as error:
        await client.set_flow_run_state(run.id, Failed(message=str(error)), force=True)
        return
    if task is None:
        state: State[Any] = Cancelled(message="its task is not shown here any more, or was deleted")
    elif task.status in FINAL:
        state = state_like(task.status, task.error_message)
    elif task.at_work:
        state = Running(message="its task is at work already")
    else:
        return
    await client.set_flow_run_state(run.id, state, force=True)


async def _cancel_what_lives(client: PrefectClient) -> None:
    """Cancel live tasks whose run was cancelled at a stroke, or before anybody hosted them."""
    runs = await asyncio.to_thread(_runs_of_live_tasks)
    for start in range(0, len(runs), PAGE):
        cancelled = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=runs[start : start + PAGE]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED])),
            )
        )
        for run in cancelled:
            assert run.state is not None
            age = datetime.now(UTC) - run.state.timestamp
            await asyncio.to_thread(leases.cancel_of_run, run.id, CANCELLED, age.total_seconds())


async def _show_ends(client: PrefectClient, look_back: timedelta) -> int:
    """Let runs say what the rows say that have ended, whatever somebody else made of them; answer how many did not."""
    ended = {row.flow_run_id: row for row in await asyncio.to_thread(_ended_rows, look_back, SETTLING)}
    ids, changed = list(ended), 0
    for start in range(0, len(ids), PAGE):
        page = FlowRunFilter(
            id=FlowRunFilterId(any_=ids[start : start + PAGE]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*FINAL_STATES, StateType.CANCELLING])),
        )
        for run in await client.read_flow_runs(flow_run_filter=page):
            row = ended[run.id]
            state = state_like(row.status, row.error_message)
            if run.state is None or run.state.type == state.type or run.state.is_crashed():
                continue
            if not state.is_cancelled():
                state.message = HAD_ENDED.format(run.state.type.value.lower(), row.status) + (
                    f": {row.error_message}" if row.error_message else ""
                )
            # Its host may have died before it was cancelled, and left its nodes open.
            children = await asyncio.to_thread(_child_states, row.task_id)
            await close_task_runs(client, run.id, GONE, children)
            await client.set_flow_run_state(run.id, state, force=True)
            changed += 1
    return changed


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
        closed += await close_flow_run(client, worker_run, GONE)
    closed += await _show_ends(client, look_back)
    ended = await asyncio.to_thread(_ended_rows, look_back, GRACE)
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
            await close_flow_run(client, run.id, GONE, state_like(row.status, row.error_message), children)
        closed += len(runs)
    return closed


def _runs_of_live_tasks() -> list[UUID]:
    """The runs that made or show tasks which have not ended."""
    statement = sa.text(
        """
        SELECT made_by_run_id FROM tasks
        WHERE status IN ('Pending', 'Processing') AND (flow_run_id IS NOT NULL OR made_by_run_id IS NOT NULL)
        UNION
        SELECT flow_run_id FROM tasks
        WHERE status IN ('Pending', 'Processing') AND (flow_run_id IS NOT NULL OR made_by_run_id IS NOT NULL)
        """
    )
    with database.transaction() as connection:
        return [run_id for run_id in connection.scalars(statement) if run_id is not None]


def _shows(flow_run_id: UUID) -> bool:
    t = tables.tasks
    with database.transaction() as connection:
        return connection.scalar(sa.select(t.c.id).where(t.c.flow_run_id == flow_run_id).limit(1)) is not None


def _is_followed(flow_run_id: UUID) -> bool:
    """Whether a run is a worker's, or is ended with the task that it shows."""
    return _shows(flow_run_id) or bool(leases.known_workers([flow_run_id]))


async def _filter(client: PrefectClient, body: dict[str, Any]) -> list[FlowRun]:
    answer = await client.request("POST", "/flow_runs/filter", json=body)
    return [FlowRun.model_validate(run) for run in answer.json()]


def _ended_rows(look_back: timedelta, grace: timedelta) -> list[EndedRow]:
    t = tables.tasks
    now = sa.func.now()
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(t.c.id.label("task_id"), t.c.flow_run_id, t.c.status, t.c.error_message).where(
                t.c.flow_run_id.is_not(None), t.c.finished_at.between(now - look_back, now - grace)
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
