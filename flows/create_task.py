"""The flow `create-task`: one entry for every task type. Its first step is the validation."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import fleet
from flows.tokens import open_token
from tasks_lib.auth import Caller, authenticate
from tasks_lib.creation import TaskCreated, TaskRequest, ValidRequest, store, validate

STEP: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}


@flow(name="create-task", flow_run_name="create {request.task_type}", persist_result=False)
async def create_task_flow(
    request: TaskRequest,
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[UUID]:
    """Validate, authorise and store a task, wake the workers, and answer the task's id.

    Args:
        request: The task to create.
        token_block: Name of the Prefect Secret block with the caller's token; the token itself is never a parameter.
        sealed_token: The caller's token, sealed for this request; `create_task(..., via="deployment")` sends it.
    """
    valid = await validate_request(request)
    caller = await authorise(valid, token_block, sealed_token)
    created = await insert(valid, caller)
    await wake_workers()
    known = "is" if created.created else "was there already and is"
    return Completed(message=f"task {created.task_id} {known} {created.status}", data=created.task_id)


@task(**STEP)
async def validate_request(request: TaskRequest) -> ValidRequest:
    """The entry step: everything about the request that can be known without a database."""
    (valid,) = validate([request])
    return valid


@task(**STEP)
async def authorise(valid: ValidRequest, token_block: str, sealed_token: str | None) -> Caller:
    """Who is calling: the holder of the token that was sealed for this request, or of the one in the block."""
    token = await open_token(token_block, sealed_token, valid.request.model_dump(mode="json"))
    return await asyncio.to_thread(authenticate, token)


@task(**STEP)
async def insert(valid: ValidRequest, caller: Caller, claimable_after: float = 0) -> TaskCreated:
    """Store the task, if the caller may, and notify the workers that live."""
    (created,) = await asyncio.to_thread(store, [valid], caller, claimable_after=claimable_after)
    return created


@task(**STEP)
async def wake_workers() -> None:
    """Start worker flows where the work that waits has none."""
    await asyncio.to_thread(fleet.ensure_workers)
