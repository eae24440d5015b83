"""The flow `travel_orchestrator`, for people and schedules: make one travelling video, and stay until it is there.

Its entry step is the create-task validation. An api worker hosts travels that were created elsewhere in runs of the
same flow (flows/hosting.py), so both look the same in the UI.
"""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from prefect.client.schemas.objects import State
from pydantic import Field

from flows.create_task import create
from flows.hosting import host_in_this_run
from flows.names import typed_or
from flows.requests import completed, request_flow
from tasks_lib.creation import TaskRequest
from tasks_lib.outcomes import TaskOutcome, outcome_of
from tasks_lib.types.travel_orchestrator import TASK_TYPE, TravelParams

OURS_SECONDS = 30


class TravelRequest(TravelParams):
    """A travel and the project that it is for."""

    project_id: Annotated[UUID, Field(strict=False)]
    """The project that the film belongs to."""


@request_flow("travel_orchestrator", typed_or(lambda _: "travel_orchestrator"))
async def travel_orchestrator(
    request: TravelRequest,
    idempotency_key: str | None = None,
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[TaskOutcome]:
    """Make a video that travels through keyframe images.

    Args:
        request: The images, prompts and settings of the travel.
        idempotency_key: A run with a key that was used before makes nothing new and shows the first travel.
        token_block: Name of the Prefect Secret block with the caller's token; the token itself is never a parameter.
        sealed_token: The caller's token, sealed for the task's request; see tasks_lib/auth/sealing.py.
    """
    params = request.model_dump(mode="json", exclude_unset=True, exclude={"project_id"})
    created = await create(
        TaskRequest(
            task_type=TASK_TYPE.name, params=params, project_id=request.project_id, idempotency_key=idempotency_key
        ),
        token_block,
        sealed_token,
        # Not at once for everybody: this run is to be its host.
        claimable_after=OURS_SECONDS,
    )
    state = await host_in_this_run(created.task_id)
    if not state.is_completed():
        return state
    return completed(await asyncio.to_thread(outcome_of, created.task_id, created=created.created))
