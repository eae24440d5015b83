"""The flow `join_clips_orchestrator`, for people and schedules: join clips into one film, and stay until it is there.

As `travel_orchestrator`: its entry step is the create-task validation, and an api worker hosts what was created
elsewhere in runs of the same flow.
"""

from __future__ import annotations

import asyncio

from prefect.client.schemas.objects import State

from flows.create_task import create
from flows.hosting import host_in_this_run
from flows.names import typed_or
from flows.requests import completed, request_flow
from flows.travel_orchestrator import OURS_SECONDS
from tasks_lib.creation import TaskRequest
from tasks_lib.outcomes import TaskOutcome, outcome_of
from tasks_lib.params.base import Id
from tasks_lib.types.join_clips_orchestrator import TASK_TYPE, JoinClipsParams


class JoinClipsRequest(JoinClipsParams):
    """Clips to join, and the project that the film is for."""

    project_id: Id
    """The project that the film belongs to."""


@request_flow("join_clips_orchestrator", typed_or(lambda _: "join_clips_orchestrator"))
async def join_clips_orchestrator(
    request: JoinClipsRequest,
    idempotency_key: str | None = None,
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[TaskOutcome]:
    """Join clips into one film, with made bridges between them.

    Args:
        request: The clips and the settings of their joins.
        idempotency_key: A run with a key that was used before makes nothing new and shows the first film.
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
