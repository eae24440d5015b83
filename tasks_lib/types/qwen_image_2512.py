"""A picture by Qwen-Image 2512."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.pictures import ReferencedPictureParams, prepare_picture

TASK_TYPE = TaskType(
    name="qwen_image_2512",
    params=ReferencedPictureParams,
    run_type="api",
    category="generation",
    display_name="Qwen Image 2512",
    description="A picture from a prompt, by Qwen-Image 2512.",
    prepare=prepare_picture,
    execute=drawing.make_picture,
    engine_kind="generate",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.026"),
    tool_type="image-generation",
    content_type="image",
)
