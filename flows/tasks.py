"""A flow for each task type that people may create, for people and programs: make one, and stay until it is there.

Its form is derived from the type's parameters (flows/forms.py), and its entry step is the create-task validation. The
run of an orchestrator hosts it, as an api worker hosts what was created elsewhere (flows/hosting.py); the run of any
other task waits for it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect import Flow, get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.utilities.callables import ParameterSchema

from flows import report
from flows.create_task import create, wake_workers
from flows.forms import ADVANCED, COMMON, form_of
from flows.hosting import host_in_this_run
from flows.names import named_after, typed_or
from flows.requests import answering_flow, completed
from tasks_lib.errors import TaskValidationError
from tasks_lib.outcomes import TaskOutcome, outcome_of, row_of
from tasks_lib.params.base import nearest
from tasks_lib.secret_blocks import DEFAULT
from tasks_lib.types.base import TaskType
from tasks_lib.types.registry import task_types

OURS_SECONDS = 30
"""So long an orchestrator is kept for its own run, which is to be its host."""

REQUEST = "request"
"""One parameter of old in place of the form's fields: the task's parameters, with `project_id` among them."""


def __getattr__(name: str) -> Any:
    """Make the flow of a type when it is asked for by the type's name, as the entrypoints in prefect.yaml do."""
    if name in task_types() and task_types()[name].public:
        return task_flow(task_types()[name])
    raise AttributeError(name)


def task_flow(declared: TaskType[Any]) -> Flow[..., State[TaskOutcome]]:
    """Make the flow of a task type."""

    async def make(given: dict[str, Any]) -> State[TaskOutcome]:
        task = request_of(declared, given)
        hosts = declared.plan is not None
        created = await create(
            task,
            given.get("token_block") or DEFAULT,
            given.get("sealed_token") or None,
            claimable_after=OURS_SECONDS if hosts else 0,
        )
        if hosts:
            state = await host_in_this_run(created.task_id)
        else:
            await wake_workers()
            state = await _wait_and_show(declared.name, created.task_id)
        if not state.is_completed():
            return state
        return completed(await asyncio.to_thread(outcome_of, created.task_id, created=created.created))

    make.__name__, make.__doc__ = declared.name, declared.description
    form = form_of(declared, also_as_request=declared.plan is not None)
    names = [REQUEST, *form["properties"]] if declared.plan is not None else [*form["properties"]]
    signature = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in names]
    )
    run_name = typed_or(lambda given: named_after(declared, params_of(given)))
    flow = answering_flow(declared.name, run_name, make, signature)
    flow.parameters = ParameterSchema(**form)
    return flow


async def _wait_and_show(task_type: str, task_id: UUID) -> State[Any]:
    """Wait for a task without children, and show in this run what it is about and what came out."""
    run = report.Run(flow_run_id=UUID(flow_run.id))
    async with get_client() as client:
        before = await asyncio.to_thread(row_of, task_id)
        await report.show_task(client, run, task_type, task_id, before.project_id, before.params)
        state = await host_in_this_run(task_id)
        after = await asyncio.to_thread(row_of, task_id)
        if state.is_completed() and after.output_location:
            await report.show_output(client, run, task_type, task_id, after.output_location, after.result or {})
    return state


def params_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's own parameters out of what a run was given, unchecked; what a form left empty is not there."""
    if isinstance(request := given.get(REQUEST), Mapping):
        return {name: value for name, value in request.items() if name != "project_id"}
    apart = {REQUEST, "project_id", ADVANCED, *COMMON}
    flat = {name: value for name, value in given.items() if name not in apart and value is not None}
    advanced = given.get(ADVANCED)
    return {**(advanced if isinstance(advanced, Mapping) else {}), **flat}


def _asked_for(declared: TaskType[Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what has its default: a form sends every field that it shows, and nobody asked for that."""
    fields = declared.params.model_fields
    return {
        n: v
        for n, v in params.items()
        if n not in fields or fields[n].is_required() or v != fields[n].get_default(call_default_factory=True)
    }


def request_of(declared: TaskType[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run asks create-task for. Raises `TaskValidationError`."""
    request, advanced = given.get(REQUEST), given.get(ADVANCED)
    for name, value in ((REQUEST, request), (ADVANCED, advanced)):
        if value is not None and not isinstance(value, Mapping):
            raise TaskValidationError(f"`{name}` must be an object, not {type(value).__name__}", name)
    params = params_of(given) if request is not None else _asked_for(declared, params_of(given))
    apart = {REQUEST, "project_id", ADVANCED, *COMMON}
    flat = {name for name, value in given.items() if name not in apart and value is not None}
    if unknown := sorted(flat - declared.params.model_fields.keys()) if request is not None else []:
        near = nearest(unknown[0], [*COMMON, *declared.params.model_fields])
        hint = f"; did you mean `{near}`?" if near else ""
        raise TaskValidationError(f"`{unknown[0]}`: there is no such parameter{hint}", unknown[0])
    if request is not None and (twice := sorted(flat)):
        raise TaskValidationError(f"`{twice[0]}` is given beside `request`; it belongs into it", twice[0])
    if twice := sorted(flat & set(advanced or ())):
        raise TaskValidationError(f"`{twice[0]}` is given twice, also in `advanced`", twice[0])
    project = (request if request is not None else given).get("project_id")
    if project is None:
        raise TaskValidationError("`project_id`: Field required", "project_id")
    return {
        "task_type": declared.name,
        # In the form that a sealed token is bound to.
        "params": declared.params.parse(params).model_dump(mode="json", exclude_unset=True),
        "project_id": project,
        "idempotency_key": given.get("idempotency_key") or None,
    }
