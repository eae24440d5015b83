"""Everything that a journey through keyframe images may be asked with, whichever way it is made."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import OF_FORMS, GenerationId, MediaReference, ShotGenerationId, Text
from tasks_lib.params.lineage import FilmParams
from tasks_lib.params.lists import expand_array_to_count
from tasks_lib.params.loras import LoraParams
from tasks_lib.params.model import VideoModelParams
from tasks_lib.params.motion import ColourParams, FormParams, VideoMotionParams
from tasks_lib.params.pairs import PairParams
from tasks_lib.params.prompts import PromptParams
from tasks_lib.params.resolution import ResolutionParams
from tasks_lib.params.structure import StructureGuidanceParams

MAX_IMAGES = 200


class JourneyParams(
    PromptParams,
    StructureGuidanceParams,
    ColourParams,
    FormParams,
    PairParams,
    VideoMotionParams,
    VideoModelParams,
    LoraParams,
    FilmParams,
    ResolutionParams,
):
    """A journey through images 0..N has N segments. A list of one entry counts for all; other lengths are exact."""

    NOT_FOLLOWED = {
        "generation_mode": OF_FORMS,
        "dimension_source": OF_FORMS,
        "image_generation_ids": "they are kept with the request, and nothing is made from them",
    }

    REFUSED = {
        "openai_api_key": "keys are never part of a task; give them to the worker",
        "params_json_str": "send its `steps` as `steps`",
        "main_output_dir_for_run": "results lie where UNITASK_STORAGE_URL says",
        "chain_segments": "say `independent_segments: false`",
        "structure_videos": "send them as `structure_guidance.videos`",
        "use_uni3c": "say `structure_guidance.target: uni3c`",
        "uni3c_start_percent": "send it in `structure_guidance.step_window`",
        "uni3c_end_percent": "send it in `structure_guidance.step_window`",
        "stitch_config": "segments share their keyframes and need no bridges; `join_clips_orchestrator` joins clips",
    }

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

    independent_segments: bool = True
    """Segments are made at the same time; false chains each to the tail of the one before."""

    image_generation_ids: Annotated[list[GenerationId], Field(max_length=MAX_IMAGES)] = []
    """The generations that the images come from, one for each; kept with the request."""

    pair_shot_generation_ids: Annotated[list[ShotGenerationId], Field(max_length=MAX_IMAGES)] = []
    """For each segment, the place of its first image on the shot's timeline."""

    generation_mode: Literal["batch", "timeline"] = "batch"
    """How the form laid the images out."""

    dimension_source: Literal["project", "firstImage", "custom"] = "project"
    """Where the form took `resolution` from."""

    regenerate_anchors: Literal[False] = False
    """Withdrawn; only false. The anchors are always the images themselves."""

    show_input_images: Literal[False] = False
    """Withdrawn; only false. The contact sheet shows the images."""

    @model_validator(mode="after")
    def _lists_fit(self) -> Self:
        for name in ("base_prompts", "negative_prompts", "enhanced_prompts"):
            expand_array_to_count(getattr(self, name), self.segment_count, name)
        for name in ("pair_shot_generation_ids", "pair_phase_configs", "pair_loras", "pair_motion_settings"):
            if len(getattr(self, name)) not in (0, self.segment_count):
                raise TaskValidationError(f"`{name}` must have {self.segment_count} entries, or none", name)
        if len(set(self.pair_shot_generation_ids)) < len(self.pair_shot_generation_ids):
            raise TaskValidationError(
                "`pair_shot_generation_ids` names a place twice; each segment has one of its own",
                "pair_shot_generation_ids",
            )
        if len(self.image_generation_ids) not in (0, len(self.image_urls)):
            raise TaskValidationError(
                f"`image_generation_ids` must have {len(self.image_urls)} entries, or none", "image_generation_ids"
            )
        return self

    @property
    def segment_count(self) -> int:
        """How many segments the images make."""
        return max(1, len(self.image_urls) - 1)

    def expanded(self) -> dict[str, list[str]]:
        """The prompts, one for each segment; an empty text where there is none."""
        return {
            name: expand_array_to_count(getattr(self, name) or [""], self.segment_count, name)
            for name in ("base_prompts", "negative_prompts", "enhanced_prompts")
        }
