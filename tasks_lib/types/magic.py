"""The parameters of edits by words."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from tasks_lib.params.base import MediaReference
from tasks_lib.types.pictures import PictureEditParams


class MagicEditParams(PictureEditParams):
    """An edit of a picture by words."""

    NOT_FOLLOWED = {"in_scene": "no model here has such a switch; say it in `prompt`"}

    image_url: Annotated[MediaReference, Field(validation_alias=AliasChoices("image_url", "image"))]
    """The picture to edit."""

    in_scene: bool = False
    """Keep the scene and move within it."""

    output_format: Literal["jpeg", "png", "webp"] = "jpeg"
    """Format of the result."""

    max_wait_seconds: Annotated[int, Field(ge=1, le=3600)] = 300
    """Seconds that the provider may take."""

    enable_sync_mode: Literal[False] = False
    """Withdrawn; only false. The worker waits as suits the provider."""

    enable_base64_output: Literal[False] = False
    """Withdrawn; only false. Results are files."""
