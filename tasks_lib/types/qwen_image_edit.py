"""An edit of a picture by words, by Qwen-Image-Edit."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.magic import MagicEditParams
from tasks_lib.types.pictures import edit

TASK_TYPE = TaskType(
    name="qwen_image_edit",
    params=MagicEditParams,
    run_type="api",
    category="generation",
    display_name="Qwen Image Edit",
    description="An edit of a picture by words, by Qwen-Image-Edit.",
    prepare=edit("magic_edit"),
    execute=drawing.make_edit,
    engine_kind="edit",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.030"),
    tool_type="magic-edit",
    content_type="image",
)
