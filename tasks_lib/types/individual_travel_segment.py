"""One segment of a travel made again: a variant of the child generation that is there, or a new child."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import GenerationId, MediaReference, Name, ShotGenerationId, Text
from tasks_lib.params.lineage import ShotParams
from tasks_lib.params.loras import LoraParams
from tasks_lib.params.model import VideoModelParams
from tasks_lib.params.motion import ColourParams, FormParams, VideoMotionParams
from tasks_lib.params.resolution import ResolutionParams
from tasks_lib.params.structure import GuidedPartParams
from tasks_lib.planning.timeline import MAX_SEGMENT_FRAMES, quantise_frames
from tasks_lib.queue import Output
from tasks_lib.types import guiding, travel_segment
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType, stored

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


class IndividualSegmentParams(
    GuidedPartParams,
    ColourParams,
    FormParams,
    VideoMotionParams,
    VideoModelParams,
    LoraParams,
    ShotParams,
    ResolutionParams,
    TaskParams,
):
    """The two images of a segment, and where it belongs."""

    NOT_FOLLOWED = {
        **dict.fromkeys(
            ("start_image_generation_id", "end_image_generation_id"),
            "it is kept with the request, and nothing is made from it",
        ),
        "shot_id": lambda params: (
            "the segment is shown where its film is"
            if params.parent_generation_id or params.child_generation_id
            else None
        ),
    }

    REFUSED = {
        "originalParams": "send the values that you want; nothing is taken over from an earlier task",
        "parsed_resolution_wh": "send it as `resolution`",
        **dict.fromkeys(("svi_predecessor_video_url", "svi_strength_1", "svi_strength_2"), "is withdrawn"),
    }

    parent_generation_id: GenerationId | None = None
    """The film that the segment is a part of."""

    child_generation_id: GenerationId | None = None
    """The segment's own generation: the result becomes a variant of it. Without one it is the film's child at
    `segment_index`, made new if it is not there."""

    segment_index: Annotated[int, Field(ge=0, le=1_000)]
    """Place in the film, from 0."""

    start_image_url: MediaReference
    """The image that it starts from."""

    end_image_url: MediaReference | None = None
    """The image that it reaches with its last frame."""

    start_image_generation_id: GenerationId | None = None
    """The generation of the start image; kept with the request."""

    end_image_generation_id: GenerationId | None = None
    """The generation of the end image; kept with the request."""

    pair_shot_generation_id: ShotGenerationId | None = None
    """The place of the start image on the shot's timeline."""

    base_prompt: Text = ""
    """What it shows."""

    enhanced_prompt: Text = ""
    """A prompt that wins over `base_prompt` where it is not empty."""

    negative_prompt: Text = ""
    """What it must not show."""

    num_frames: Annotated[int, Field(ge=5, le=MAX_SEGMENT_FRAMES)] = 49
    """Frames to render, 5 to 81; brought down to 4n+1."""

    generation_name: Name | None = None
    """Name of a new child."""

    make_primary_variant: bool = True
    """Whether the result is what the generation shows from now on."""

    @model_validator(mode="after")
    def _belongs_somewhere(self) -> Self:
        if not (self.parent_generation_id or self.child_generation_id or self.shot_id):
            raise TaskValidationError(
                "one of `parent_generation_id`, `child_generation_id` and `shot_id` is required",
                "parent_generation_id",
            )
        return self

    def placement(self) -> dict[str, Any]:
        """A variant of the child, a child of the parent, or for a shot alone a video of its own.

        A film of this one segment shows it too.
        """
        lineage = {
            "parent_generation_id": self.parent_generation_id,
            "pair_shot_generation_id": self.pair_shot_generation_id,
        }
        given: dict[str, Any] = {name: str(id_) for name, id_ in lineage.items() if id_}
        if self.child_generation_id:
            given |= {"as": "variant", "generation_id": str(self.child_generation_id), "fills_film": True}
        elif self.parent_generation_id:
            given |= {"as": "child", "type": "video", "child_order": str(self.segment_index), "fills_film": True}
        else:
            given |= self.new_generation("video")
        named = {"name": self.generation_name} if self.generation_name else {}
        return {
            **given,
            **named,
            "variant_type": "individual_segment",
            "primary": self.make_primary_variant,
        }


def prepare(params: IndividualSegmentParams, preparation: Preparation) -> Prepared:
    """Its size, seed and number of frames are settled here."""
    row = stored(
        params,
        resolution=preparation.resolution(params.resolution),
        seed=params.settled_seed(),
        num_frames=quantise_frames(params.num_frames, "num_frames"),
    )
    return Prepared(row, params.placement(), params.model_name)


def execute(bench: Bench) -> Output:
    """Render it as a segment of a travel is rendered, but to be looked at."""
    given = bench.params
    own = {name: value for name, value in given.items() if name in travel_segment.TravelSegmentParams.model_fields}
    segment = travel_segment.TravelSegmentParams.parse(
        {
            **own,
            "start_image": given["start_image_url"],
            "end_image": given.get("end_image_url"),
            "frames": given["num_frames"],
            "prompt": given["enhanced_prompt"] or given["base_prompt"],
        }
    )
    return travel_segment.render(bench, segment, lossless=False)


def estimate_seconds(params: dict[str, Any]) -> float:
    """As for a segment of a travel."""
    return travel_segment.estimate_seconds({"frames": params["num_frames"]})


TASK_TYPE = TaskType(
    name="individual_travel_segment",
    params=IndividualSegmentParams,
    run_type="gpu",
    category="generation",
    display_name="Travel Segment",
    description="Makes one segment of a travel again.",
    prepare=prepare,
    execute=execute,
    engine_kind="inbetween",
    require=guiding.require_guide,
    estimate_seconds=estimate_seconds,
    tool_type="travel-between-images",
    content_type="video",
)
