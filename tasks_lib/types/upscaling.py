"""The parameters of upscaling, and where its result goes."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from tasks_lib.billing.cost import CostFactors
from tasks_lib.params.base import GenerationId, MediaReference
from tasks_lib.params.lineage import ShotParams
from tasks_lib.params.model import ModelParams
from tasks_lib.types.base import Preparation, Prepared, TaskParams, stored

ENLARGEMENT = CostFactors(resolution={"2x": Decimal(1), "4x": Decimal(2), "8x": Decimal(4)})
"""What the factor on width and height makes of the price."""


class UpscaleParams(ModelParams, ShotParams, TaskParams):
    """A larger version of a picture."""

    image_url: Annotated[MediaReference, Field(validation_alias=AliasChoices("image_url", "image"))]
    """The picture to enlarge."""

    generation_id: GenerationId | None = None
    """The generation that it shows: the result becomes its primary variant. Without one a new generation is made."""

    scale_factor: Annotated[float, Field(ge=1, le=8)] = 2.0
    """Factor on width and height."""

    output_format: Literal["jpeg", "png", "webp"] = "jpeg"
    """Format of the result. A picture with transparency, which jpeg cannot hold, becomes a png instead."""


def prepare(params: UpscaleParams, _: Preparation) -> Prepared:
    """The primary variant of the generation that is enlarged."""
    placement = params.new_generation("image")
    if params.generation_id:
        placement = {
            "as": "variant",
            "generation_id": str(params.generation_id),
            "variant_type": "upscaled",
            "primary": True,
        }
    return Prepared(stored(params), placement, params.model_name)
