"""How pictures and edits of pictures are prepared; the types differ in their parameters, pools and prices."""

from __future__ import annotations

from collections.abc import Callable

from tasks_lib.params.base import SEED_MAX
from tasks_lib.params.image import EditParams, HiresParams, ImageParams, ReferenceParams
from tasks_lib.params.resolution import ResolutionScale
from tasks_lib.types.base import Preparation, Prepared, TaskParams, stored


class PictureParams(HiresParams, ImageParams, TaskParams):
    """A picture from a prompt, as a task."""

    REFUSED = {
        "num_inference_steps": "send it as `steps`",
        **dict.fromkeys(ReferenceParams.model_fields, "only a type that takes a reference has it; see `model_name`"),
    }


class ScaledPictureParams(PictureParams):
    """A picture by a model that works best above the ratio's base size."""

    resolution_scale: ResolutionScale = 1.5
    """Factor on the ratio's base size; an explicit `resolution` is never scaled."""


class ReferencedPictureParams(ReferenceParams, ScaledPictureParams):
    """A picture that may take its style, subject or scene from another."""


def prepare_picture(params: PictureParams, preparation: Preparation) -> Prepared:
    """A new generation; its size and seed are settled here."""
    row = stored(
        params,
        resolution=params.settled_resolution(preparation.resolution(None)),
        seed=params.settled_seed(SEED_MAX),
    )
    if isinstance(params, ReferenceParams):
        row |= params.settled_references()
    return Prepared(row, params.new_generation("image"), params.model_name)


class PictureEditParams(EditParams, TaskParams):
    """An edit of a picture, as a task."""


def edit(variant_type: str, *, of_source_size: bool = False) -> Callable[[PictureEditParams, Preparation], Prepared]:
    """How an edit is prepared whose variants are of this kind; its seed is settled here.

    Without a `resolution` it gets the project's, or keeps the size of its source.
    """

    def prepare(params: PictureEditParams, preparation: Preparation) -> Prepared:
        row = stored(params, seed=params.settled_seed())
        if params.resolution is None and not of_source_size:
            row["resolution"] = preparation.resolution(None)
        return Prepared(row, params.edited(variant_type), params.model_name)

    return prepare
