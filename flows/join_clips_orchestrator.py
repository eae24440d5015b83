"""The flow `join_clips_orchestrator`, for people and schedules: join clips into one film, and stay until it is there.

As `travel_orchestrator`: its entry step is the create-task validation, and an api worker hosts what was created
elsewhere in runs of the same flow.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.create_task import authorise, insert, validate_request
from flows.hosting import host_in_this_run
from flows.travel_orchestrator import OURS_SECONDS
from tasks_lib.creation import TaskRequest
from tasks_lib.params.base import Id
from tasks_lib.types.join_clips_orchestrator import TASK_TYPE, JoinClipsParams


class JoinClipsRequest(JoinClipsParams):
    """Clips to join, and the project that the film is for."""

    project_id: Id
    """The project that the film belongs to."""


@flow(name="join_clips_orchestrator", flow_run_name="join_clips_orchestrator", persist_result=False)
async def join_clips_orchestrator(
    request: JoinClipsRequest,
    idempotency_key: str | None = None,
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[Any]:
    """Join clips into one film, with made bridges between them.

    Args:
        request: The clips and the settings of their joins.
        idempotency_key: A run with a key that was used before makes nothing new and shows the first film.
        token_block: Name of the Prefect Secret block with the caller's token; the token itself is never a parameter.
        sealed_token: The caller's token, sealed for the task's request; see tasks_lib/auth/sealing.py.
    """
    params = request.model_dump(mode="json", exclude_unset=True, exclude={"project_id"})
    valid = await validate_request(
        TaskRequest(
            task_type=TASK_TYPE.name, params=params, project_id=request.project_id, idempotency_key=idempotency_key
        )
    )
    caller = await authorise(valid, token_block, sealed_token)
    created = await insert(valid, caller, claimable_after=OURS_SECONDS)
    return await host_in_this_run(created.task_id)
