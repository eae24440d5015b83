"""A video that travels through keyframe images: plans its segments and their stitch, and is done when they are."""

from __future__ import annotations

import random
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

from pydantic import Field, model_validator

from tasks_lib.labels import generate_run_id, generate_task_id
from tasks_lib.params.base import MediaReference, Resolution, Text
from tasks_lib.params.lists import expand_array_to_count
from tasks_lib.params.loras import LoraParams
from tasks_lib.params.model import VideoModelParams
from tasks_lib.params.motion import VideoMotionParams
from tasks_lib.params.prompts import PromptParams
from tasks_lib.params.structure import VideoStructureParams
from tasks_lib.planning.timeline import Timeline, plan_timeline
from tasks_lib.planning.travel import plan_travel
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType

MAX_IMAGES = 200
RANDOM_SEED_LIMIT = 1_000_000

Id = Annotated[UUID, Field(strict=False)]


class TravelParams(PromptParams, VideoStructureParams, VideoMotionParams, VideoModelParams, LoraParams, TaskParams):
    """A travel through images 0..N has N segments. A list of one entry counts for all; other lengths are exact."""

    image_urls: Annotated[list[MediaReference], Field(min_length=1, max_length=MAX_IMAGES)]
    """The keyframes in order; one image is a journey of one segment with no end."""

    base_prompts: Annotated[list[Text], Field(min_length=1, max_length=MAX_IMAGES)]
    """Prompt of each segment; an empty one means `base_prompt`."""

    segment_frames: Annotated[list[int], Field(min_length=1, max_length=MAX_IMAGES)] | int = 61
    """Frames of each segment, 5 to 81; brought down to 4n+1."""

    frame_overlap: Annotated[list[int], Field(max_length=MAX_IMAGES)] | int = 0
    """Frames that each joint shares; brought down to a multiple of 4, below both neighbours."""

    negative_prompts: Annotated[list[Text], Field(max_length=MAX_IMAGES)] = []
    """What each segment must not show."""

    enhanced_prompts: Annotated[list[Text], Field(max_length=MAX_IMAGES)] = []
    """Prompts that win over `base_prompts` where they are not empty."""

    resolution: Resolution | None = None
    """WIDTHxHEIGHT in pixels; without one it follows the project's aspect ratio."""

    independent_segments: bool = True
    """Segments are made at the same time; false chains each to the tail of the one before."""

    shot_id: Id | None = None
    """The shot that the film belongs to."""

    parent_generation_id: Id | None = None
    """A video generation to fill; without one a new one is made."""

    pair_shot_generation_ids: Annotated[list[Id], Field(max_length=MAX_IMAGES)] = []
    """For each segment, the place of its first image on the shot's timeline."""

    generation_name: Annotated[str, Field(max_length=200)] | None = None
    """Name of the film."""

    @model_validator(mode="after")
    def _everything_fits(self) -> Self:
        for name in ("base_prompts", "negative_prompts", "enhanced_prompts"):
            expand_array_to_count(getattr(self, name), self.segment_count, name)
        if self.pair_shot_generation_ids and len(self.pair_shot_generation_ids) != self.segment_count:
            raise ValueError(f"`pair_shot_generation_ids` must have {self.segment_count} entries")
        self.timeline()
        return self

    @property
    def segment_count(self) -> int:
        """How many segments the images make."""
        return max(1, len(self.image_urls) - 1)

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
    for name in ("base_prompts", "negative_prompts", "enhanced_prompts"):
        details[name] = expand_array_to_count(details[name] or [""], params.segment_count, name)
    details["resolution"] = preparation.resolution(params.resolution)
    if params.random_seed:
        details["seed"] = random.randrange(RANDOM_SEED_LIMIT)

    placement: dict[str, Any] = {"as": "existing", "generation_id": str(params.parent_generation_id)}
    if params.parent_generation_id is None:
        placement = {"as": "placeholder", "generation_id": str(uuid4()), "type": "video"}
        if params.generation_name:
            placement["name"] = params.generation_name
    if params.shot_id:
        placement["shot_id"] = str(params.shot_id)
    return Prepared(
        params={
            "tool_type": TASK_TYPE.tool_type,
            "task_id": generate_task_id("sm_travel_orchestrator"),
            "run_id": generate_run_id(),
            "orchestrator_details": details,
            "timeline": params.timeline().model_dump(),
        },
        placement=placement,
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
