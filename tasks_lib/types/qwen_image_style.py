"""A picture by Qwen-Image that takes its style, subject or scene from another picture."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.params.base import MediaReference
from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.pictures import ReferencedPictureParams, prepare_picture


class QwenImageStyleParams(ReferencedPictureParams):
    """A picture from a prompt and a reference."""

    style_reference_image: MediaReference
    """The picture whose style is taken."""


TASK_TYPE = TaskType(
    name="qwen_image_style",
    params=QwenImageStyleParams,
    run_type="api",
    category="generation",
    display_name="Qwen.Image Style Generation",
    description="A picture from a prompt in the style of another, by Qwen-Image.",
    prepare=prepare_picture,
    execute=drawing.make_styled_picture,
    engine_kind="edit",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.030"),
    tool_type="image-generation",
    content_type="image",
)
