"""An edit of a picture by drawing on it."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.masked import MaskedEditParams
from tasks_lib.types.pictures import edit

TASK_TYPE = TaskType(
    name="annotated_image_edit",
    params=MaskedEditParams,
    run_type="api",
    category="processing",
    display_name="Annotated Image Edit",
    description="Edits a picture as the drawing on it says.",
    prepare=edit("annotated_edit", of_source_size=True),
    execute=drawing.make_edit,
    engine_kind="edit",
    base_cost_per_second=Decimal(0),
    billing_type="per_unit",
    unit_cost=Decimal("0.002"),
    tool_type="processing",
    content_type="image",
)
