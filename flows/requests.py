"""What the flows that people and programs ask for have in common: how they read their parameters and how they end.

Prefect would end a run with a wrong parameter as Crashed or with a traceback. These read their parameters themselves:
a user's mistake ends the run as Failed with one sentence, which names the field. What they answer is kept as JSON under
PREFECT_HOME (or in PREFECT_DEFAULT_RESULT_STORAGE_BLOCK), so that `state.result()` works in the caller's process.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Generic, ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect import Flow, Task, get_client, runtime
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.states import Cancelled, Completed, Failed
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from flows import mending
from flows.runs import CANCELLED
from tasks_lib.deployment_client import ERROR_LABEL
from tasks_lib.errors import TaskError
from tasks_lib.masking import mask
from tasks_lib.outcomes import TaskOutcome
from tasks_lib.params.base import refusal
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings

P = ParamSpec("P")
T = TypeVar("T")

SERIALIZER = "compressed/json"
"""Prefect 3 takes a plain JSON object with `data` for a record of Prefect 2, and loses the type of the answer."""

_MISSING = object()


def request_flow(
    name: str, run_name: str | Callable[[], str]
) -> Callable[[Callable[P, Awaitable[State[T]]]], Flow[..., State[T]]]:
    """Make a flow whose run answers its caller, and ends in one sentence where the caller was wrong."""

    def decorate(body: Callable[P, Awaitable[State[T]]]) -> Flow[..., State[T]]:
        signature = inspect.signature(body, eval_str=True)
        model = _model_of(signature)

        async def run(given: dict[str, Any]) -> State[T]:
            return await body(**_read(model, given))  # type: ignore[call-arg]

        return answering_flow(name, run_name, functools.update_wrapper(run, body), signature)

    return decorate


def answering_flow(
    name: str,
    run_name: str | Callable[[], str],
    body: Callable[[dict[str, Any]], Awaitable[State[T]]],
    signature: inspect.Signature,
) -> Flow[..., State[T]]:
    """Make a flow of a body that reads itself what its run was given, which need not fit the signature."""
    shown = _taking_anything(signature)

    @functools.wraps(body)
    async def run(*args: Any, **given: Any) -> State[T]:
        everything = dict(zip(shown.parameters, args, strict=False)) | given
        try:
            state = await body({name: value for name, value in everything.items() if value is not _MISSING})
        except TaskError as error:
            return await _refused(error)
        return await _cancelled_meanwhile() or state

    run.__signature__ = shown  # type: ignore[attr-defined]
    return Flow(
        fn=run,  # type: ignore[arg-type]
        name=name,
        flow_run_name=run_name,
        validate_parameters=False,
        persist_result=True,
        result_serializer=SERIALIZER,
    )


class Step(Generic[P, T]):
    """A call that is shown as a task run. A `TaskError` of its reaches the caller, and the log has one line of it."""

    def __init__(self, fn: Callable[P, Coroutine[Any, Any, T]]) -> None:
        self.fn = fn

        @functools.wraps(fn)
        async def shown(*args: P.args, **kwargs: P.kwargs) -> T | State[Any]:
            try:
                return await fn(*args, **kwargs)
            except TaskError as error:
                return Failed(message=mask(str(error)), data=error)

        self._task: Task[P, Any] = Task(shown, persist_result=False, cache_policy=NO_CACHE)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the call in a task run of its own. Raises what it raises."""
        state: Any = await self._task(*args, **kwargs, return_state=True)  # type: ignore[misc]
        result: T = await state.aresult()
        return result


def completed(outcome: TaskOutcome) -> State[TaskOutcome]:
    """The state of a run that has an answer."""
    return Completed(message=outcome.summary(), data=outcome)


def prune_answers() -> None:
    """Delete the answers of runs that Prefect has forgotten, in the folder of this machine."""
    days = get_settings().event_days
    folder = PREFECT_LOCAL_STORAGE_PATH.value()
    oldest = time.time() - days * 24 * 3600
    for path in folder.glob("*") if days else ():
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


async def _cancelled_meanwhile() -> State[Any] | None:
    """Cancel what this run has made if somebody has cancelled the run, whose end would hide that from all others."""
    try:
        async with get_client() as client:
            run = await client.read_flow_run(UUID(runtime.flow_run.id))
    except (httpx.HTTPError, PrefectException):
        return None
    if run.state is None or run.state.type not in CANCELLED:
        return None
    age = datetime.now(UTC) - run.state.timestamp
    await asyncio.to_thread(leases.cancel_of_run, run.id, mending.CANCELLED, max(age.total_seconds(), 0))
    return Cancelled(message=mending.CANCELLED)


async def _refused(error: TaskError) -> State[Any]:
    text = mask(str(error))
    async with get_client() as client:
        await client.update_flow_run_labels(UUID(runtime.flow_run.id), {ERROR_LABEL: type(error).__name__})
    return Failed(message=text, data=error if text == str(error) else TaskError(text))


def _model_of(signature: inspect.Signature) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in signature.parameters.items()
    }
    return create_model("Parameters", __config__=ConfigDict(extra="forbid", hide_input_in_errors=True), **fields)


def _read(model: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    try:
        read = model.model_validate(given)
    except ValidationError as error:
        raise refusal(model, error.errors()) from None
    return {name: getattr(read, name) for name in model.model_fields}


def _taking_anything(signature: inspect.Signature) -> inspect.Signature:
    """Let Prefect hand over what this run was given, even if a parameter is missing or unknown.

    Prefect compares the names before anything of ours runs, and would crash the run. So in a process that was started
    for a run nothing is required and its unknown names are parameters too; `_read` refuses them in words.
    """
    if runtime.flow_run.id is None:
        return signature
    known = [
        parameter.replace(default=_MISSING) if parameter.default is parameter.empty else parameter
        for parameter in signature.parameters.values()
    ]
    unknown = [_Unknown(name) for name in runtime.flow_run.parameters if name not in signature.parameters]
    return signature.replace(parameters=[*known, *unknown])


class _Unknown(inspect.Parameter):
    """A parameter whose name need not be one of Python's."""

    def __init__(self, name: str) -> None:
        super().__init__("unknown", self.KEYWORD_ONLY, default=None)
        self._name = name
