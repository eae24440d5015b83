"""A part of a picture, made anew."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.masked import MaskedEditParams
from tasks_lib.types.pictures import edit

TASK_TYPE = TaskType(
    name="image_inpaint",
    params=MaskedEditParams,
    run_type="api",
    category="processing",
    display_name="Image Inpaint",
    description="Makes the masked part of a picture anew.",
    prepare=edit("inpaint", of_source_size=True),
    execute=drawing.make_inpainting,
    engine_kind="inpaint",
    base_cost_per_second=Decimal(0),
    billing_type="per_unit",
    unit_cost=Decimal("0.002"),
    tool_type="processing",
    content_type="image",
)
