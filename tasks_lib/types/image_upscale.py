"""A larger picture, by the worker's own engine."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types.base import TaskType, needs_model
from tasks_lib.types.upscaling import UpscaleParams, prepare

TASK_TYPE = TaskType(
    name="image_upscale",
    params=UpscaleParams,
    run_type="gpu",
    category="processing",
    display_name="Image Upscaling",
    description="Enlarges a picture.",
    prepare=prepare,
    execute=needs_model("larger pictures"),
    billing_type="per_unit",
    unit_cost=Decimal("0.02"),
    cost_factors={"resolution": {"2x": 1, "4x": 2, "8x": 4}},
    tool_type="processing",
    content_type="image",
)
