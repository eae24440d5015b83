"""A picture by Wan 2.2: a video of one frame."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.pictures import PictureParams, prepare_picture

TASK_TYPE = TaskType(
    name="wan_2_2_t2i",
    params=PictureParams,
    run_type="gpu",
    category="generation",
    display_name="Wan 2.2 Image",
    description="A picture from a prompt, by Wan 2.2.",
    prepare=prepare_picture,
    execute=drawing.make_picture,
    engine_kind="generate",
    billing_type="per_unit",
    unit_cost=Decimal("0.025"),
    tool_type="image-generation",
    content_type="image",
)
