"""One creation function for each task type, in the specification's names.

All take an object of task_params.py, a dictionary, or keywords, which count before what the others say: `project_id`
and the fields of the type's parameters (`unitask types show NAME`), and answer a `TaskCreated`. Where they make several
tasks they make all of them in one transaction, or none and one error that names every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from tasks_lib.creation import TaskCreated, create_task, create_tasks, validate_required_fields
from tasks_lib.errors import TaskValidationError
from tasks_lib.task_params import (
    MAX_COPIES,
    AnnotatedImageEditTaskParams,
    BatchImageGenerationTaskParams,
    BatchParams,
    CharacterAnimateTaskParams,
    HelperParams,
    ImageGenerationTaskParams,
    ImageInpaintTaskParams,
    ImageUpscaleTaskParams,
    IndividualTravelSegmentTaskParams,
    JoinClipsTaskParams,
    MagicEditTaskParams,
    ReplicateUpscaleTaskParams,
    TravelBetweenImagesTaskParams,
    with_lists,
)

if TYPE_CHECKING:
    from typing import Unpack

    from tasks_lib import keywords

IMAGE_TYPES = {
    "qwen-image": "qwen_image",
    "qwen-image-2512": "qwen_image_2512",
    "z-image": "z_image_turbo",
    "wan-2.2-t2i": "wan_2_2_t2i",
    "optimised-t2i": "wan_2_2_t2i",
}
"""The models that are task types of their own; any other name, or none, makes a `single_image`."""


OPTIONS = (*HelperParams.OPTIONS, "token")


def create_travel_between_images_task(
    params: TravelBetweenImagesTaskParams | Mapping[str, Any] | None = None,
    **fields: Unpack[keywords.TravelBetweenImagesTask],
) -> TaskCreated:
    """Create a video that travels through keyframe images: fields of `TravelParams`.

    With `turbo_mode` a quick external model makes it (`wan_2_2_i2v`).
    """
    given = _given(params, fields, "image_urls", "base_prompts")
    return _create("wan_2_2_i2v" if given.get("turbo_mode") is True else "travel_orchestrator", given)


def create_image_generation_task(
    params: ImageGenerationTaskParams | Mapping[str, Any] | None = None, **fields: Unpack[keywords.ImageGenerationTask]
) -> TaskCreated:
    """Create a picture from a prompt: fields of `PictureParams`, and what the type of its `model_name` takes."""
    given = _given(params, fields, "prompt")
    return _create(*_image(given))


def create_batch_image_generation_tasks(
    params: BatchImageGenerationTaskParams | Mapping[str, Any] | None = None,
    **fields: Unpack[keywords.BatchImageGenerationTask],
) -> list[TaskCreated]:
    """Create `images_per_prompt` pictures for each of `prompts`: fields of `BatchParams` and of a picture.

    All are stored in one transaction, or none: `refusals` of the error names every refused row.
    """
    given = _given(params, fields, "prompts")
    laid_out = {name: given.pop(name) for name in (*BatchParams.model_fields, "imagesPerPrompt") if name in given}
    batch = BatchParams.parse(laid_out)
    rows = []
    for row in range(len(batch.prompts) * batch.images_per_prompt):
        prompt = batch.prompts[row // batch.images_per_prompt].full_prompt
        rows.append(_image({**given, "prompt": prompt, **batch.seed_of(row)}))
    return _create_all(rows)


def create_magic_edit_task(
    params: MagicEditTaskParams | Mapping[str, Any] | None = None, **fields: Unpack[keywords.MagicEditTask]
) -> TaskCreated:
    """Create an edit of a picture by words: fields of `MagicEditParams`, and `num_images` (1 to 16).

    Several have the seeds `seed`, `seed + 1` and so on; `batch` of the answer names them all.
    """
    return _copies("qwen_image_edit", _given(params, fields, "prompt"), "num_images", "numImages")


def create_image_inpaint_task(
    params: ImageInpaintTaskParams | Mapping[str, Any] | None = None, **fields: Unpack[keywords.ImageInpaintTask]
) -> TaskCreated:
    """Create a picture with a part made anew: fields of `MaskedEditParams`, and `num_generations` (1 to 16)."""
    given = _given(params, fields, "image_url", "mask_url", "prompt")
    return _copies("image_inpaint", given, "num_generations")


def create_annotated_image_edit_task(
    params: AnnotatedImageEditTaskParams | Mapping[str, Any] | None = None,
    **fields: Unpack[keywords.AnnotatedImageEditTask],
) -> TaskCreated:
    """Create an edit by drawing on a picture: fields of `MaskedEditParams`, and `num_generations` (1 to 16)."""
    given = _given(params, fields, "image_url", "mask_url", "prompt")
    return _copies("annotated_image_edit", given, "num_generations")


def create_image_upscale_task(
    params: ImageUpscaleTaskParams | Mapping[str, Any] | None = None, **fields: Unpack[keywords.ImageUpscaleTask]
) -> TaskCreated:
    """Create a larger version of a picture, by the workers' own engine: fields of `UpscaleParams`."""
    return _create("image_upscale", _given(params, fields))


def create_replicate_upscale_task(
    params: ReplicateUpscaleTaskParams | Mapping[str, Any] | None = None,
    **fields: Unpack[keywords.ReplicateUpscaleTask],
) -> TaskCreated:
    """Create a larger version of a picture, by a model at Replicate: fields of `UpscaleParams`."""
    return _create("replicate_upscale", _given(params, fields))


def create_character_animate_task(
    params: CharacterAnimateTaskParams | Mapping[str, Any] | None = None,
    **fields: Unpack[keywords.CharacterAnimateTask],
) -> TaskCreated:
    """Create a video of a character that moves as in another: fields of `AnimateCharacterParams`."""
    return _create("animate_character", _given(params, fields, "character_image_url", "motion_video_url"))


def create_join_clips_task(
    params: JoinClipsTaskParams | Mapping[str, Any] | None = None, **fields: Unpack[keywords.JoinClipsTask]
) -> TaskCreated:
    """Create a film of clips with bridges between them: fields of `JoinClipsParams`."""
    return _create("join_clips_orchestrator", _given(params, fields))


def create_individual_travel_segment_task(
    params: IndividualTravelSegmentTaskParams | Mapping[str, Any] | None = None,
    **fields: Unpack[keywords.IndividualTravelSegmentTask],
) -> TaskCreated:
    """Create one segment of a travel again: fields of `IndividualSegmentParams`."""
    return _create("individual_travel_segment", _given(params, fields, "start_image_url"))


def _given(params: Any, fields: Mapping[str, Any], *required: str) -> dict[str, Any]:
    """One form of the three that a request may have."""
    if isinstance(params, HelperParams):
        params = params.as_given()
    elif isinstance(params, BaseModel):
        params = params.model_dump(exclude_unset=True)
    if params is not None and not isinstance(params, Mapping):
        raise TaskValidationError(f"parameters must be an object, not {type(params).__name__}", "params")
    given = with_lists({**(params or {}), **fields})
    validate_required_fields(given, ["project_id", *required])
    return given


def _image(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The task type that a picture's `model_name` stands for, and the parameters that are left."""
    values = dict(given)
    name = values.get("model_name")
    if not isinstance(name, str) or name not in IMAGE_TYPES:
        return "single_image", values
    del values["model_name"]
    styled = name == "qwen-image" and values.get("style_reference_image") is not None
    return "qwen_image_style" if styled else IMAGE_TYPES[name], values


def _create(task_type: str, given: Mapping[str, Any]) -> TaskCreated:
    values = dict(given)
    options = {name: values.pop(name) for name in OPTIONS if name in values}
    return create_task(task_type, values, **options)


def _copies(task_type: str, given: dict[str, Any], *count_names: str) -> TaskCreated:
    """So many tasks of one request, which differ in their seeds."""
    asked = [given.pop(name) for name in count_names if name in given] or [1]
    count = asked[0]
    if type(count) is not int or not 1 <= count <= MAX_COPIES:
        raise TaskValidationError(f"`{count_names[0]}` must be from 1 to {MAX_COPIES}, not {count!r}", count_names[0])
    seed = given.get("seed")
    rows = [(task_type, {**given, "seed": seed + i} if type(seed) is int else given) for i in range(count)]
    created = _create_all(rows)
    return replace(created[0], batch=tuple(task.task_id for task in created))


def _create_all(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[TaskCreated]:
    """All in one transaction. One idempotency key counts for the whole call: each row has its own made from it."""
    requests = []
    for row, (task_type, given) in enumerate(rows):
        values = dict(given)
        request = {name: values.pop(name) for name in OPTIONS if name in values}
        token = request.pop("token", None)
        if request.get("idempotency_key") is not None and len(rows) > 1:
            request["idempotency_key"] = f"{request['idempotency_key']}:{row}"
        requests.append({"task_type": task_type, "params": values, **request})
    return create_tasks(requests, token=token)
