"""A picture by Qwen-Image."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.params.image import ReferenceParams
from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.pictures import ScaledPictureParams, prepare_picture


class QwenImageParams(ScaledPictureParams):
    """A picture from a prompt."""

    REFUSED = dict.fromkeys(ReferenceParams.model_fields, "pictures with a reference are `qwen_image_style` tasks")


TASK_TYPE = TaskType(
    name="qwen_image",
    params=QwenImageParams,
    run_type="api",
    category="generation",
    display_name="Qwen Image",
    description="A picture from a prompt, by Qwen-Image.",
    prepare=prepare_picture,
    execute=drawing.make_picture,
    engine_kind="generate",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.039"),
    tool_type="image-generation",
    content_type="image",
)
