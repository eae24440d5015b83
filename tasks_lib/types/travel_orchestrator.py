"""A video that travels through keyframe images: plans its segments and their stitch, and is done when they are."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from tasks_lib.errors import TaskValidationError
from tasks_lib.labels import generate_run_id, generate_task_id
from tasks_lib.params.journey import JourneyParams
from tasks_lib.planning.timeline import Timeline, plan_timeline
from tasks_lib.planning.travel import plan_travel
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType


class TravelParams(JourneyParams, TaskParams):
    """A travel through images 0..N has N segments. A list of one entry counts for all; other lengths are exact."""

    turbo_mode: Literal[False] = False
    """The quick external model is a task type of its own, `wan_2_2_i2v`."""

    @model_validator(mode="after")
    def _timeline_fits(self) -> Self:
        film = self.timeline().total_frames
        for i, video in enumerate(self.structure_guidance.videos if self.structure_guidance else ()):
            if video.start_frame >= film:
                field = f"structure_guidance.videos[{i}].start_frame"
                raise TaskValidationError(f"`{field}` is {video.start_frame}, and the film has {film} frames", field)
        return self

    def timeline(self) -> Timeline:
        """The layout of the film. Raises `TaskValidationError` for frames and overlaps that do not fit."""
        timeline = plan_timeline(
            segment_frames=self.segment_frames,
            frame_overlap=self.frame_overlap or 0,
            mode="independent" if self.independent_segments else "chained",
            segments=self.segment_count,
        )
        # A journey from one image reaches no second one.
        return timeline if len(self.image_urls) > 1 else timeline.model_copy(update={"keyframes": [0]})


def prepare(params: TravelParams, preparation: Preparation) -> Prepared:
    """Everything that the fan-out will need, each value in one place."""
    details: dict[str, Any] = params.model_dump(mode="json", exclude={"random_seed", "segment_frames", "frame_overlap"})
    details |= params.expanded()
    details["resolution"] = preparation.resolution(params.resolution)
    details["seed"] = params.settled_seed()

    return Prepared(
        params={
            "tool_type": TASK_TYPE.tool_type,
            "task_id": generate_task_id("sm_travel_orchestrator"),
            "run_id": generate_run_id(),
            "orchestrator_details": details,
            "timeline": params.timeline().model_dump(),
        },
        placement=params.film(),
        model=params.model_name,
    )


TASK_TYPE = TaskType(
    name="travel_orchestrator",
    params=TravelParams,
    run_type="api",
    category="orchestration",
    display_name="Travel Between Images",
    description="A video that travels through keyframe images.",
    prepare=prepare,
    plan=plan_travel,
    tool_type="travel-between-images",
    content_type="video",
)
