"""The parameters of each helper as an object, under the specification's names.

An object is checked when it is made, as a dictionary is when it is sent; both, and keywords, leave the same row. The
annotations of the constructors are for type checkers: what may be given, which is more than what is read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from tasks_lib.creation import Dependency, TaskRequest, as_dependency
from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import Id, Name, ParamGroup, Seed, Words, refusal
from tasks_lib.params.image import HiresParams, PictureSettings, ReferenceParams
from tasks_lib.params.journey import JourneyParams
from tasks_lib.params.model import VideoModelParams
from tasks_lib.params.motion import VideoMotionParams
from tasks_lib.params.structure import VideoStructureParams
from tasks_lib.types.animate_character import AnimateCharacterParams
from tasks_lib.types.individual_travel_segment import IndividualSegmentParams
from tasks_lib.types.join_clips_orchestrator import JoinClipsParams
from tasks_lib.types.magic import MagicEditParams
from tasks_lib.types.masked import MaskedEditParams
from tasks_lib.types.pictures import ReferencedPictureParams
from tasks_lib.types.upscaling import UpscaleParams

if TYPE_CHECKING:
    from typing import Unpack

    from tasks_lib import keywords

MAX_COPIES = 16
MAX_PROMPTS = 2_000

VideoStructureApiParams = VideoStructureParams
VideoMotionApiParams = VideoMotionParams
VideoModelApiParams = VideoModelParams
DEFAULT_VIDEO_STRUCTURE_PARAMS: dict[str, Any] = VideoStructureParams().model_dump(exclude_none=True)
"""To be spread over a travel's parameters: `**DEFAULT_VIDEO_STRUCTURE_PARAMS`."""

Copies = Annotated[int, Field(ge=1, le=MAX_COPIES)]


class _Checked(BaseModel):
    """Ends in our own error, which names the field, when it is made of something wrong."""

    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise refusal(type(self), error.errors()) from None


class BaseTaskParams(_Checked, TaskRequest):
    """What `create_task` takes as one object."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            project_id: UUID | str,
            task_type: str,
            params: Mapping[str, Any],
            idempotency_key: str | None = None,
            depends_on: Sequence[UUID | str | Dependency] = (),
            priority: int = 0,
        ) -> None: ...


class HelperParams(_Checked, ParamGroup):
    """What every helper takes beside the parameters of its type. A token is no part of it: it is given beside."""

    OPTIONS: ClassVar = ("project_id", "idempotency_key", "depends_on", "priority")

    project_id: Id
    """The project that the task belongs to."""

    idempotency_key: Name | None = None
    """Repeating a call with the same key makes nothing new."""

    depends_on: Annotated[
        tuple[
            Annotated[Dependency, BeforeValidator(as_dependency, json_schema_input_type=Dependency | UUID | str)], ...
        ],
        Field(strict=False),
    ] = ()
    """Tasks that must end first: their ids, or `{task_id, policy}`."""

    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    """Among the caller's own tasks."""

    @model_validator(mode="before")
    @classmethod
    def _as_lists(cls, given: Any) -> Any:
        return with_lists(given) if isinstance(given, dict) else given

    def as_given(self) -> dict[str, Any]:
        """What was given, and no default: as a request that is sent has it."""
        beside = {name: getattr(self, name) for name in self.OPTIONS if name in self.model_fields_set}
        return self.model_dump(exclude_unset=True, exclude=set(self.OPTIONS)) | beside


def with_lists(given: dict[str, Any]) -> dict[str, Any]:
    """The same parameters with a list wherever Python has a tuple; parameters are strict about their kinds."""
    return {
        name: list(value) if isinstance(value, tuple) and name != "depends_on" else value
        for name, value in given.items()
    }


class TravelBetweenImagesTaskParams(HelperParams, JourneyParams):
    """What `create_travel_between_images_task` takes."""

    turbo_mode: bool = False
    """Let a quick external model make it."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.TravelBetweenImagesTask]) -> None: ...


class ImageGenerationTaskParams(HelperParams, ReferencedPictureParams):
    """What `create_image_generation_task` takes; a reference only with a `model_name` that takes one."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.ImageGenerationTask]) -> None: ...


class BatchPrompt(ParamGroup):
    """One prompt of a batch."""

    full_prompt: Annotated[Words, Field(validation_alias=AliasChoices("full_prompt", "fullPrompt"))]
    """What the pictures show."""

    short_prompt: Annotated[str | None, Field(validation_alias=AliasChoices("short_prompt", "shortPrompt"))] = None
    """A label for people; not stored."""

    id: Name | None = None
    """The caller's own name for it; not stored."""


def _as_prompt(value: Any) -> Any:
    return {"full_prompt": value} if isinstance(value, str) else value


class BatchParams(ParamGroup):
    """How a batch of pictures is laid out."""

    prompts: Annotated[
        list[Annotated[BatchPrompt, BeforeValidator(_as_prompt, json_schema_input_type=BatchPrompt | str)]],
        Field(min_length=1, max_length=MAX_PROMPTS),
    ]
    """Texts, or `{full_prompt, short_prompt, id}`."""

    images_per_prompt: Annotated[
        Copies, Field(validation_alias=AliasChoices("images_per_prompt", "imagesPerPrompt"))
    ] = 1
    """Pictures of each prompt."""

    seed: Seed | None = None
    """The first seed, or the only one."""

    seed_mode: Literal["random", "fixed", "increment"] | None = None
    """Draw each picture's seed, use `seed` for all, or `seed` plus the picture's place in the batch. Without one:
    increment where a seed is given, else random."""

    def seed_of(self, row: int) -> dict[str, Any]:
        """The seed parameters of one picture. Raises `TaskValidationError` for a mode that needs a seed."""
        mode = self.seed_mode or ("random" if self.seed is None else "increment")
        if mode == "random":
            return {"random_seed": True}
        if self.seed is None:
            raise TaskValidationError(f"`seed` is required with `seed_mode` {mode}", "seed")
        return {"seed": self.seed + (row if mode == "increment" else 0)}


class BatchImageGenerationTaskParams(  # type: ignore[misc]  # a batch needs no seed, a picture has one
    HelperParams, BatchParams, ReferenceParams, HiresParams, PictureSettings
):
    """What `create_batch_image_generation_tasks` takes."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.BatchImageGenerationTask]) -> None: ...


class MagicEditTaskParams(HelperParams, MagicEditParams):
    """What `create_magic_edit_task` takes."""

    num_images: Annotated[Copies, Field(validation_alias=AliasChoices("num_images", "numImages"))] = 1
    """So many edits, which differ in their seeds."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.MagicEditTask]) -> None: ...


class ImageInpaintTaskParams(HelperParams, MaskedEditParams):
    """What `create_image_inpaint_task` takes."""

    num_generations: Copies = 1
    """So many pictures, which differ in their seeds."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.ImageInpaintTask]) -> None: ...


class AnnotatedImageEditTaskParams(HelperParams, MaskedEditParams):
    """What `create_annotated_image_edit_task` takes."""

    num_generations: Copies = 1
    """So many pictures, which differ in their seeds."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.AnnotatedImageEditTask]) -> None: ...


class ImageUpscaleTaskParams(HelperParams, UpscaleParams):
    """What `create_image_upscale_task` takes."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.ImageUpscaleTask]) -> None: ...


class ReplicateUpscaleTaskParams(HelperParams, UpscaleParams):
    """What `create_replicate_upscale_task` takes."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.ReplicateUpscaleTask]) -> None: ...


class CharacterAnimateTaskParams(HelperParams, AnimateCharacterParams):
    """What `create_character_animate_task` takes."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.CharacterAnimateTask]) -> None: ...


class JoinClipsTaskParams(HelperParams, JoinClipsParams):
    """What `create_join_clips_task` takes."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.JoinClipsTask]) -> None: ...


class IndividualTravelSegmentTaskParams(HelperParams, IndividualSegmentParams):
    """What `create_individual_travel_segment_task` takes."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[keywords.IndividualTravelSegmentTask]) -> None: ...
