"""A picture made from another by Z-Image Turbo."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from tasks_lib.params.base import Fraction, MediaReference, Steps, Text
from tasks_lib.params.lineage import LineageParams
from tasks_lib.params.loras import LoraParams
from tasks_lib.params.model import EditSeedParams, ModelParams
from tasks_lib.types import drawing
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType, stored


class ZImageToImageParams(EditSeedParams, ModelParams, LoraParams, LineageParams, TaskParams):
    """A picture made from another; its size is the source's, brought to about one megapixel."""

    image_url: MediaReference
    """The picture to start from."""

    prompt: Text = ""
    """What it is to show; may be empty."""

    strength: Fraction = 0.6
    """How far it may go from the source: 0 keeps it, 1 ignores it."""

    enable_prompt_expansion: bool = False
    """Let the provider's language model write the prompt out."""

    num_images: Literal[1] = 1
    """Pictures of one task; ask for several tasks to get several."""

    steps: Annotated[Steps, Field(validation_alias=AliasChoices("steps", "num_inference_steps"))] = 8
    """Inference steps."""

    output_format: Literal["jpeg", "png", "webp"] = "png"
    """Format of the result."""

    enable_safety_checker: bool = True
    """Let the provider refuse what its rules forbid."""


def prepare(params: ZImageToImageParams, _: Preparation) -> Prepared:
    """An edit of its source; its seed is settled here, and adapters switch the provider's acceleration off."""
    row = stored(
        params,
        image_size="auto",
        acceleration="none" if params.loras else "high",
        seed=params.settled_seed(),
    )
    return Prepared(row, params.edited("edit"), params.model_name)


TASK_TYPE = TaskType(
    name="z_image_turbo_i2i",
    params=ZImageToImageParams,
    run_type="api",
    category="generation",
    display_name="Z Image Turbo I2I",
    description="A picture made from another and a prompt, by Z-Image Turbo.",
    prepare=prepare,
    execute=drawing.make_variation,
    engine_kind="vary",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.0065"),
    tool_type="edit-images",
    content_type="image",
)
