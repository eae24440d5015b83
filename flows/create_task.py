"""The flow `create-task`: one entry for every task type. Its first step is the validation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
from prefect.client.schemas.objects import State

from flows import fleet
from flows.names import typed_or
from flows.requests import Step, completed, request_flow
from flows.runs import is_tried_again, this_flow_run_id
from flows.tokens import open_token
from tasks_lib.auth import Caller, authenticate
from tasks_lib.creation import TaskCreated, TaskRequest, ValidRequest, store, validate
from tasks_lib.database import through_outages
from tasks_lib.errors import DatabaseError
from tasks_lib.outcomes import TaskOutcome, outcome_of
from tasks_lib.queue import leases


def _name(parameters: Mapping[str, Any]) -> str:
    request = parameters.get("request")
    return f"create {request.get('task_type', 'a task') if isinstance(request, dict) else 'a task'}"


@request_flow("create-task", typed_or(_name))
async def create_task_flow(
    request: TaskRequest,
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[TaskOutcome]:
    """Validate, authorise and store a task, wake the workers, and answer the task's id and status.

    Args:
        request: The task to create.
        token_block: Name of the Prefect Secret block with the caller's token; the token itself is never a parameter.
        sealed_token: The caller's token, sealed for this request; `create_task(..., via="deployment")` sends it.
    """
    created = await create(request, token_block, sealed_token)
    await wake_workers()
    return completed(await through_outages(outcome_of, created.task_id, created=created.created))


async def create(
    request: TaskRequest | Mapping[str, Any], token_block: str, sealed_token: str | None, *, claimable_after: float = 0
) -> TaskCreated:
    """Take the three steps to a stored task; `claimable_after` keeps it for so many seconds for a claim by its id."""
    valid = await validate_request(request)
    caller = await authorise(valid, token_block, sealed_token)
    return await insert(valid, caller, claimable_after)


@Step
async def validate_request(request: TaskRequest | Mapping[str, Any]) -> ValidRequest:
    """The entry step: everything about the request that can be known without a database."""
    (valid,) = validate([request])
    return valid


@Step
async def authorise(valid: ValidRequest, token_block: str, sealed_token: str | None) -> Caller:
    """Who is calling: the holder of the token that was sealed for this request, or of the one in the block."""
    token = await open_token(token_block, sealed_token, valid.request.model_dump(mode="json"))
    return await through_outages(authenticate, token)


@Step
async def insert(valid: ValidRequest, caller: Caller, claimable_after: float = 0) -> TaskCreated:
    """Store the task, if the caller may, and notify the workers that live; a run that comes again goes on with it."""
    run_id = this_flow_run_id()
    if run_id and valid.request.idempotency_key is None:
        # Whatever became of the first attempt, and if two come at once: one run, one task.
        key = {"idempotency_key": f"run:{run_id}"}
        valid = replace(valid, request=valid.request.model_copy(update=key))
    (created,) = await through_outages(store, [valid], caller, claimable_after=claimable_after, made_by_run_id=run_id)
    if created.status in ("Failed", "Cancelled") and await is_tried_again():
        await through_outages(leases.retry, created.task_id, claimable_after)
    return created


@Step
async def wake_workers() -> None:
    """Start worker flows where the work that waits has none; the task is stored whatever comes of that."""
    with suppress(httpx.HTTPError, DatabaseError):
        await asyncio.to_thread(fleet.ensure_workers)
