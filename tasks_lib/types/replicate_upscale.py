"""A larger picture, by a model at Replicate."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types.base import TaskType
from tasks_lib.types.image_upscale import execute
from tasks_lib.types.upscaling import ENLARGEMENT, UpscaleParams, prepare

TASK_TYPE = TaskType(
    name="replicate_upscale",
    params=UpscaleParams,
    run_type="api",
    category="processing",
    display_name="Image Upscaling (Replicate)",
    description="Enlarges a picture with a model at Replicate.",
    prepare=prepare,
    execute=execute,
    engine_kind="upscale",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.02"),
    cost_factors=ENLARGEMENT,
    tool_type="processing",
    content_type="image",
)
