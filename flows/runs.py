"""The few corners of Prefect's API that are public but little documented, kept in one place; tests/flows pins them.

Children of a hosted orchestrator are planted as task runs that are visible at once, Pending and with their edges, and
start when their parents are done. `submit` and `wait_for` would do the same with a thread for every waiter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from prefect import Flow, Task, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow_async
from prefect.runtime import flow_run
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_UI_URL, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Pending
from prefect.task_engine import run_task_async
from prefect.utilities.engine import emit_task_run_state_change_event

PAGE = 200
CANCELLED = [StateType.CANCELLING, StateType.CANCELLED]
OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
HOST_ENDS = "its host ends; another worker goes on"
AWAITING_HOST = "AwaitingHost"
"""The name of the state, a kind of Pending, of a run whose host has left it to the next one."""


class ShownFlow(NamedTuple):
    """The flow whose runs show tasks of a type, and the deployment that those runs belong to."""

    flow_id: UUID
    deployment_id: UUID | None


async def shown_flow(client: PrefectClient, task_type: str) -> ShownFlow:
    """The flow of a task type. Without a deployment its runs are shown all the same, but have no buttons."""
    try:
        deployment = await client.read_deployment_by_name(f"{task_type}/{task_type.replace('_', '-')}")
    except ObjectNotFound:
        return ShownFlow(await client.create_flow_from_name(task_type), None)
    return ShownFlow(deployment.flow_id, deployment.id)


async def create_flow_run(
    client: PrefectClient, flow: ShownFlow, *, name: str, parameters: dict[str, Any], tags: list[str]
) -> FlowRun:
    """A new run of the flow's deployment in no work queue: no process is started for it, and it takes no slot."""
    body = {
        "flow_id": str(flow.flow_id),
        "deployment_id": flow.deployment_id and str(flow.deployment_id),
        "name": name,
        "parameters": parameters,
        "tags": tags,
        "state": {"type": "PENDING"},
    }
    answer = await client.request("POST", "/flow_runs/", json=body)
    return FlowRun.model_validate(answer.json())


async def take_over(
    client: PrefectClient, flow_run_id: UUID, flow_id: UUID, *, is_ours: bool = False
) -> FlowRun | None:
    """The run in which a task was shown before, if it waits for a host or has ended and is to go on; else None.

    One that `is_ours` goes on in any case: its host is the caller.
    """
    try:
        run = await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return None
    if run.flow_id != flow_id or run.state is None:
        return None
    if run.state.is_scheduled() or (is_ours and run.state.is_paused()):
        await client.set_flow_run_state(run.id, Pending(), force=True)
        return await client.read_flow_run(run.id)
    # A crashed one is left as it is: its successor is named there.
    is_over = run.state.is_final() and not run.state.is_crashed()
    return run if is_ours or is_over or run.state.name == AWAITING_HOST else None


async def hand_over(client: PrefectClient, flow_run_id: UUID) -> None:
    """Leave an open run to the next host of its task."""
    run = await client.read_flow_run(flow_run_id)
    if run.state is not None and not run.state.is_final():
        state: State[Any] = State(type=StateType.PENDING, name=AWAITING_HOST, message=HOST_ENDS)
        await client.set_flow_run_state(flow_run_id, state, force=True)


async def start_again_later(client: PrefectClient, flow_run_id: UUID, seconds: float) -> None:
    """Let Prefect start the process of a run again, which only waits for a task that somebody else hosts."""
    state: State[Any] = AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(seconds=seconds))
    state.message = HOST_ENDS
    await client.set_flow_run_state(flow_run_id, state, force=True)


def this_flow_run_id() -> UUID | None:
    """The id of the flow run that this is called in, if it is called in one."""
    return UUID(flow_run.id) if flow_run.id else None


async def is_tried_again() -> bool:
    """Whether somebody asked the run that this is called in to go on although it had ended."""
    if flow_run.run_count < 2:
        return False
    async with get_client() as client:
        return any(state.is_final() for state in await client.read_flow_run_states(UUID(flow_run.id)))


async def plant_task_run(task: Task[Any, Any], name: str, task_run_id: UUID, after: Sequence[TaskRun]) -> TaskRun:
    """A task run that is visible as Pending, with its edges, before anything runs."""
    edges: list[State[Any]] = [Pending(state_details=StateDetails(task_run_id=run.id)) for run in after]
    run = await task.create_local_run(id=task_run_id, wait_for=edges)
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


def run_hosted(flow: Flow[..., Any], run: FlowRun, parameters: dict[str, Any]) -> asyncio.Future[State[Any]]:
    """Start a flow in a run that was made for it, in the process of the flow run that this is called in.

    Two things that a process of its own would have are left out, since each costs a thread: its heartbeat, and the
    watch for a suspension, which Prefect starts where it sees a deployment. And a request to suspend one of the two
    runs must not be taken for a request to the other.
    """
    context = FlowRunContext.get()
    assert context is not None
    own = {"flow_run_suspension_request": type(context.flow_run_suspension_request)()}
    shown = run.model_copy(update={"deployment_id": None})
    with temporary_settings(updates={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), context.model_copy(update=own):
        running = run_flow_async(flow, flow_run=shown, parameters=parameters, return_type="state")
        return asyncio.ensure_future(running)  # type: ignore[arg-type]


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


async def deleted_of(client: PrefectClient, flow_run_ids: Sequence[UUID]) -> set[UUID]:
    """Of these flow runs, those that a person has deleted; one call while there are none."""
    ids = list(flow_run_ids)
    body = {"flow_runs": {"id": {"any_": [str(run_id) for run_id in ids]}}}
    if not ids or int((await client.request("POST", "/flow_runs/count", json=body)).json()) == len(ids):
        return set()
    there: set[UUID] = set()
    for start in range(0, len(ids), PAGE):
        page = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE]))
        there |= {run.id for run in await client.read_flow_runs(flow_run_filter=page)}
    return set(ids) - there


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
    of_flow: UUID | None = None,
) -> bool:
    """End a flow run whose process is dead, with what it left open; answer whether it was open.

    A run of another flow than `of_flow` is left as it is. It ends as Crashed with the message, or in `state`; its task
    runs in the states that are given by their names, or as Crashed.
    """
    try:
        run = await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return False
    if of_flow not in (None, run.flow_id) or (
        run.state is not None and run.state.is_final() and not run.state.is_crashed()
    ):
        return False
    await close_task_runs(client, flow_run_id, message, task_states or {})
    await client.set_flow_run_state(flow_run_id, state or Crashed(message=message), force=True)
    return True


async def close_task_runs(
    client: PrefectClient, flow_run_id: UUID, message: str, states: Mapping[str, State[Any]]
) -> None:
    """End the task runs that a flow run has left open, or in another state: as `states` says by name, or as Crashed."""
    shown: list[TaskRun] = []
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    while page := await client.read_task_runs(flow_run_filter=of_run, limit=PAGE, offset=len(shown)):
        shown += page

    async def close(item: TaskRun) -> None:
        state = states.get(item.name)
        # Its host may have died between a cancel and a retry of its task: what had ended then is no longer so.
        if item.state_type in OPEN or (state is not None and state.type != item.state_type):
            await client.set_task_run_state(item.id, state or Crashed(message=message), force=True)

    await asyncio.gather(*(close(item) for item in shown))
