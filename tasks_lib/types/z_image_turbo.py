"""A picture by Z-Image Turbo."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.pictures import ReferencedPictureParams, prepare_picture

TASK_TYPE = TaskType(
    name="z_image_turbo",
    params=ReferencedPictureParams,
    run_type="api",
    category="generation",
    display_name="Z Image Turbo",
    description="A picture from a prompt, by Z-Image Turbo.",
    prepare=prepare_picture,
    execute=drawing.make_picture,
    engine_kind="generate",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.0065"),
    tool_type="image-generation",
    content_type="image",
)
