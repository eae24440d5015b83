"""A picture turned round."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from tasks_lib.params.base import MediaReference
from tasks_lib.params.lineage import ShotParams
from tasks_lib.queue import Output
from tasks_lib.types.base import TaskParams, TaskType, as_given


class RotateParams(ShotParams, TaskParams):
    """A picture and an angle."""

    image_url: MediaReference
    """The picture."""

    degrees: Annotated[int, Field(ge=0, le=359)] = 90
    """How far, clockwise."""


def execute(bench: Any) -> Output:
    """Turn it; the corners become black."""
    import numpy as np
    from PIL import Image

    from tasks_lib.media.images import Picture, read_picture

    params = RotateParams.parse(bench.params)
    picture = Image.fromarray(read_picture(bench.fetch(params.image_url)).pixels)
    return bench.picture(Picture(np.asarray(picture.rotate(-params.degrees, expand=True))), "png")


TASK_TYPE = TaskType(
    name="rotate_image",
    params=RotateParams,
    run_type="gpu",
    category="processing",
    display_name="Rotate",
    description="Turns a picture round.",
    prepare=as_given,
    execute=execute,
    base_cost_per_second=Decimal("0.001"),
    content_type="image",
)
