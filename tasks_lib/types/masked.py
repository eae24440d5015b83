"""The parameters of edits under a mask."""

from __future__ import annotations

from tasks_lib.params.base import MediaReference
from tasks_lib.types.pictures import PictureEditParams


class MaskedEditParams(PictureEditParams):
    """An edit of the part of a picture that a mask marks."""

    image_url: MediaReference
    """The picture to edit."""

    mask_url: MediaReference
    """What is to change: white is made anew, black is kept; for annotations, the drawing on the picture."""
