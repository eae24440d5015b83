"""A video that guides the motion of the one to make."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks_lib.params.base import MediaReference, ParamGroup


class VideoStructureParams(ParamGroup):
    """One guiding video and how it acts."""

    structure_video_path: MediaReference | None = None
    """The guiding video; without one the other structure settings have no effect."""

    structure_video_treatment: Literal["adjust", "clip"] = "adjust"
    """Stretch the guide over the whole travel, or keep its speed and cut it."""

    structure_video_motion_strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How strongly the guide acts; 1 is as it is."""

    structure_video_type: Literal["flow", "canny", "depth"] = "flow"
    """What is taken from the guide: its motion, its edges or its depth."""
