"""A picture by the worker's own model, or by any model that is configured."""

from __future__ import annotations

from decimal import Decimal

from tasks_lib.billing.cost import CostFactors
from tasks_lib.types import drawing
from tasks_lib.types.base import TaskType
from tasks_lib.types.pictures import PictureParams, prepare_picture

TASK_TYPE = TaskType(
    name="single_image",
    params=PictureParams,
    run_type="gpu",
    category="generation",
    display_name="Image Generation",
    description="A picture from a prompt, by the worker's own model.",
    prepare=prepare_picture,
    execute=drawing.make_picture,
    engine_kind="generate",
    billing_type="per_unit",
    unit_cost=Decimal("0.025"),
    cost_factors=CostFactors(
        resolution={
            "512x512": Decimal(1),
            "768x768": Decimal(2),
            "1024x1024": Decimal(3),
            "1536x1536": Decimal(5),
            "2048x2048": Decimal(8),
        },
        model_type={"flux-dev": Decimal(1), "flux-pro": Decimal(2), "flux-schnell": Decimal("0.5")},
    ),
    tool_type="image-generation",
    content_type="image",
)
