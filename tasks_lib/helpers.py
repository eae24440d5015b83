"""One creation function for each task type, in the specification's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from tasks_lib.creation import Dependency, TaskCreated, create_task, validate_required_fields


def create_travel_between_images_task(
    params: Mapping[str, Any] | None = None,
    *,
    token: str | SecretStr | None = None,
    idempotency_key: str | None = None,
    depends_on: Sequence[UUID | str | Dependency] = (),
    priority: int = 0,
    **fields: Any,
) -> TaskCreated:
    """Create a video that travels through keyframe images.

    `params`, or keywords, hold `project_id`, `image_urls`, `base_prompts` and any other field of `TravelParams`.
    """
    given = {**(params or {}), **fields}
    validate_required_fields(given, ["project_id", "image_urls", "base_prompts"])
    project_id = given.pop("project_id")
    return create_task(
        "travel_orchestrator",
        given,
        project_id=project_id,
        token=token,
        idempotency_key=idempotency_key,
        depends_on=depends_on,
        priority=priority,
    )
