"""A film of clips with bridges between them: plans the bridges and the film, and is done when they are."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from tasks_lib.errors import TaskValidationError
from tasks_lib.labels import generate_run_id, generate_task_id
from tasks_lib.params.base import OF_FORMS, OF_GALLERIES, MediaReference, Name, ParamGroup
from tasks_lib.params.joins import JoinSettings, OneJoin
from tasks_lib.params.lineage import FilmParams
from tasks_lib.params.model import VIDEO_SEED_LIMIT
from tasks_lib.params.motion import FormParams
from tasks_lib.params.prompts import NO_REWRITING
from tasks_lib.params.resolution import ResolutionParams
from tasks_lib.planning.joins import plan_join_clips
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType

MAX_CLIPS = 100
DEFAULT_FPS = 16.0

_AS_CLIPS = "send all clips in their order as `clips`"
_NO_EDITING = "parts of a clip are not made again yet; cut it and join the pieces"


class Clip(ParamGroup):
    """One clip."""

    NOT_FOLLOWED = {"name": "it is kept with the request for people, and nothing is made from it"}

    url: MediaReference
    """The video."""

    name: Name | None = None
    """A label for people."""


def _as_clip(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class JoinClipsParams(JoinSettings, FormParams, FilmParams, ResolutionParams, TaskParams):
    """Clips in their order, and what is made between them; each join may have settings of its own."""

    NOT_FOLLOWED = {"enhance_prompt": NO_REWRITING, "motion_mode": OF_FORMS, "tool_type": OF_GALLERIES}

    REFUSED = {
        "starting_video_path": _AS_CLIPS,
        "intermediate_video_paths": _AS_CLIPS,
        "ending_video_path": _AS_CLIPS,
        "run_id": "it is made at creation",
        **dict.fromkeys(("video_edit_mode", "portions_to_regenerate"), _NO_EDITING),
        **dict.fromkeys(
            ("source_video_url", "source_video_fps", "source_video_duration", "source_video_total_frames"), _NO_EDITING
        ),
    }

    clips: Annotated[list[Annotated[Clip, BeforeValidator(_as_clip)]], Field(min_length=1, max_length=MAX_CLIPS)]
    """The clips in order, as URLs or `{url, name}`: two or more, or one for a loop."""

    loop: Annotated[bool, Field(validation_alias=AliasChoices("loop", "loop_first_clip"))] = False
    """End with a bridge back to the first clip, so that the film can be shown in a circle; `loop_first_clip` is taken
    for it too. The first clip need not be sent again."""

    audio_url: MediaReference | None = None
    """A track that replaces the clips' own sound, from its beginning and cut to the film's length."""

    per_join_settings: Annotated[list[OneJoin], Field(max_length=MAX_CLIPS)] = []
    """Settings of single joins, from the first; those that are missing follow the settings of all."""

    enhance_prompt: bool = True
    """Let a language model write prompts from the clips, where the engine has one."""

    fps: Annotated[float, Field(ge=1, le=120)] | None = None
    """Frames per second of the film; 16 without one."""

    use_input_video_resolution: bool = False
    """Take the size of the first clip; so it is without a `resolution`, too."""

    use_input_video_fps: bool = False
    """Take the rate of the first clip instead of 16."""

    motion_mode: Literal["basic", "advanced"] = "basic"
    """Which of the motion settings a form shows."""

    tool_type: Literal["join-clips", "travel-between-images"] = "join-clips"
    """The tool that a person made it with."""

    @property
    def each(self) -> list[Clip]:
        """Every clip once: older clients end a loop with the first one."""
        again = self.loop and len(self.clips) > 1 and self.clips[-1].url == self.clips[0].url
        return self.clips[:-1] if again else self.clips

    @property
    def joints(self) -> int:
        """How many bridges there are."""
        return len(self.each) if self.loop else len(self.clips) - 1

    @model_validator(mode="after")
    def _fits_its_joints(self) -> Self:
        if not self.joints:
            raise TaskValidationError("`clips` has 1 entry; two or more are joined, or one with `loop`", "clips")
        if len(self.per_join_settings) > self.joints:
            raise TaskValidationError(
                f"`per_join_settings` has {len(self.per_join_settings)} entries; there are {self.joints} joins",
                "per_join_settings",
            )
        for given, own in (("resolution", "use_input_video_resolution"), ("fps", "use_input_video_fps")):
            if getattr(self, given) and getattr(self, own):
                raise TaskValidationError(f"give `{given}` or `{own}`, not both", given)
        return self


def prepare(params: JoinClipsParams, _: Preparation) -> Prepared:
    """Everything that the fan-out will need, each value in one place."""
    details: dict[str, Any] = params.model_dump(mode="json", exclude_none=True, exclude={"tool_type"})
    details["settings"] = {name: details.pop(name) for name in JoinSettings.model_fields if name in details}
    details["clips"] = details["clips"][: len(params.each)]
    details["per_join_settings"] += [{}] * (params.joints - len(params.per_join_settings))
    for settings in (details["settings"], *details["per_join_settings"]):
        if settings.get("seed") == -1:
            settings["seed"] = random.randrange(VIDEO_SEED_LIMIT)
    if not params.use_input_video_fps:
        details["fps"] = params.fps or DEFAULT_FPS
    return Prepared(
        params={
            "tool_type": params.tool_type,
            "task_id": generate_task_id("join_clips_orchestrator"),
            "run_id": generate_run_id(),
            "orchestrator_details": details,
        },
        placement=params.film(),
        model=params.model_name,
    )


TASK_TYPE = TaskType(
    name="join_clips_orchestrator",
    params=JoinClipsParams,
    run_type="api",
    category="orchestration",
    display_name="Join Clips",
    description="Joins clips into one film, with made bridges between them.",
    prepare=prepare,
    plan=plan_join_clips,
    tool_type="join-clips",
    content_type="video",
)
