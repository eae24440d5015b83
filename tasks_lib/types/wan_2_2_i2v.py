"""A turbo travel: a video through images by a quick external model, five seconds from image to image."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from tasks_lib.params.journey import JourneyParams
from tasks_lib.types import drawing
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType, stored


class TurboTravelParams(JourneyParams, TaskParams):
    """A journey as `travel_orchestrator` takes it; the model makes every pair at its own length."""

    turbo_mode: Literal[True] = True
    """This is the turbo."""


def prepare(params: TurboTravelParams, preparation: Preparation) -> Prepared:
    """One video, of all pairs; each list has an entry for each segment."""
    settled: dict[str, Any] = {
        **params.expanded(),
        "resolution": preparation.resolution(params.resolution),
        "seed": params.settled_seed(),
    }
    placement = params.new_generation("video")
    if params.parent_generation_id:
        placement = {
            "as": "variant",
            "generation_id": str(params.parent_generation_id),
            "variant_type": "travel_stitch",
            "primary": True,
        }
    elif params.generation_name:
        placement["name"] = params.generation_name
    return Prepared(stored(params, **settled), placement, params.model_name)


def count_pairs(params: dict[str, Any]) -> int:
    """Return how many videos are made: one for each pair of neighbours; one image is a journey without an end."""
    return max(1, len(params["image_urls"]) - 1)


TASK_TYPE = TaskType(
    name="wan_2_2_i2v",
    params=TurboTravelParams,
    run_type="api",
    category="generation",
    display_name="WAN 2.2 Image to Video",
    description="A quick video through images, by an external model.",
    prepare=prepare,
    execute=drawing.make_turbo_travel,
    engine_kind="inbetween",
    billing_type="per_unit",
    unit_cost=Decimal("0.25"),
    units=count_pairs,
    unit="pair of images",
    tool_type="travel-between-images",
    content_type="video",
)
