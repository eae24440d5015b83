"""The few corners of Prefect's API that are public but little documented, kept in one place; tests/flows pins them.

Children of a hosted orchestrator are planted as task runs that are visible at once, Pending and with their edges, and
start when their parents are done. `submit` and `wait_for` would do the same with a thread for every waiter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect import Task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateDetails, StateType, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_UI_URL, temporary_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending
from prefect.task_engine import run_task_async
from prefect.utilities.engine import emit_task_run_state_change_event

CANCELLED = [StateType.CANCELLING, StateType.CANCELLED]
OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


async def plant_task_run(task: Task[Any, Any], name: str, after: Sequence[TaskRun]) -> TaskRun:
    """A task run that is visible as Pending, with its edges, before anything runs."""
    edges: list[State[Any]] = [Pending(state_details=StateDetails(task_run_id=run.id)) for run in after]
    run = await task.create_local_run(wait_for=edges)
    run.name = name
    assert run.state is not None
    emit_task_run_state_change_event(task_run=run, initial_state=None, validated_state=run.state)
    return run


async def run_planted(task: Task[Any, Any], run: TaskRun, parameters: dict[str, Any]) -> State[Any]:
    """Run a planted task run, and give its final state."""
    return await run_task_async(task, task_run=run, parameters=parameters, return_type="state")  # type: ignore[return-value]


def tag_this_task_run(*tags: str) -> None:
    """Tag the task run that this is called in.

    Tags given before the start cost an API call each time, which waits while the server is away; these travel with
    the final event.
    """
    context = TaskRunContext.get()
    assert context is not None
    context.task_run.tags = list(tags)


def this_task_run_id() -> UUID:
    """The id of the task run that this is called in."""
    context = TaskRunContext.get()
    assert context is not None
    return context.task_run.id


@contextmanager
def hosting_settings() -> Iterator[None]:
    """Sub-flows that start in this block have no heartbeat of their own: it would cost a thread for each."""
    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def state_like(status: str, message: str | None) -> State[Any]:
    """Prefect's state for the final status of a row."""
    made = {"Complete": Completed, "Failed": Failed, "Cancelled": Cancelled}[status]
    return made(message=message)


def flow_run_url(flow_run_id: UUID) -> str:
    """Where a person sees a flow run."""
    return f"{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run_id}"


def task_run_url(task_run_id: UUID) -> str:
    """Where a person sees a task run."""
    return f"{PREFECT_UI_URL.value()}/runs/task-run/{task_run_id}"


async def asked_to_cancel(client: PrefectClient, flow_run_ids: Sequence[UUID]) -> set[UUID]:
    """Of these flow runs, those that a person has cancelled; one call for all of them."""
    runs = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            id=FlowRunFilterId(any_=list(flow_run_ids)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=CANCELLED)),
        )
    )
    return {run.id for run in runs}


async def asked_to_cancel_work(client: PrefectClient, task_run_ids: Sequence[UUID]) -> set[UUID]:
    """Of these task runs, those whose state a person has changed to a cancelled one."""
    if not task_run_ids:
        return set()
    runs = await client.read_task_runs(
        task_run_filter=TaskRunFilter(
            id=TaskRunFilterId(any_=list(task_run_ids)),
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=CANCELLED)),
        )
    )
    return {run.id for run in runs}


async def close_flow_run(
    client: PrefectClient,
    flow_run_id: UUID,
    message: str,
    state: State[Any] | None = None,
    task_states: Mapping[str, State[Any]] | None = None,
) -> bool:
    """End a flow run whose process is dead, with what it left open; answer whether it was open.

    It ends as Crashed with the message, or in `state`; its task runs in the states that are given by their names, or
    as Crashed.
    """
    try:
        run = await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return False
    if run.state is not None and run.state.is_final() and not run.state.is_crashed():
        return False
    left = await client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=OPEN))),
    )
    known = task_states or {}
    await asyncio.gather(
        *(
            client.set_task_run_state(item.id, known.get(item.name) or Crashed(message=message), force=True)
            for item in left
        )
    )
    await client.set_flow_run_state(flow_run_id, state or Crashed(message=message), force=True)
    return True
