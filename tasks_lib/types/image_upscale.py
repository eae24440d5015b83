"""A larger picture, by the worker's own engine."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tasks_lib.queue import Output
from tasks_lib.types.base import TaskType
from tasks_lib.types.upscaling import ENLARGEMENT, UpscaleParams, prepare

if TYPE_CHECKING:
    from tasks_lib.engines.bench import Bench


def execute(bench: Bench) -> Output:
    """Enlarge the picture; its transparency follows, and its colour profile stays."""
    from tasks_lib.engines.base import UpscaleRequest
    from tasks_lib.media.images import enlarged_like, read_picture

    params = UpscaleParams.parse(bench.params)
    source = bench.fetch(params.image_url)
    result = bench.run(UpscaleRequest(image=source, factor=params.scale_factor))
    picture = enlarged_like(read_picture(source), result.image())
    return bench.picture(picture, params.output_format, provenance=result.provenance.as_dict())


TASK_TYPE = TaskType(
    name="image_upscale",
    params=UpscaleParams,
    run_type="gpu",
    category="processing",
    display_name="Image Upscaling",
    description="Enlarges a picture.",
    prepare=prepare,
    execute=execute,
    engine_kind="upscale",
    billing_type="per_unit",
    unit_cost=Decimal("0.02"),
    cost_factors=ENLARGEMENT,
    tool_type="processing",
    content_type="image",
)
