"""Sizes of pictures, in pixels, WIDTHxHEIGHT."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks_lib.params.base import ParamGroup, Resolution, size_of

ASPECT_RATIOS = {
    "21:9": "1024x438",
    "16:9": "902x508",
    "4:3": "768x576",
    "3:2": "768x512",
    "1:1": "670x670",
    "Square": "670x670",
    "2:3": "512x768",
    "3:4": "576x768",
    "9:16": "508x902",
    "9:21": "438x1024",
}
"""The size of a request without one, by aspect ratio."""

DEFAULT_ASPECT_RATIO = "1:1"

AspectRatio = Literal["21:9", "16:9", "4:3", "3:2", "1:1", "Square", "2:3", "3:4", "9:16", "9:21"]

ResolutionScale = Annotated[float, Field(ge=1, le=2.5)]


class ResolutionParams(ParamGroup):
    """A size of one's own."""

    resolution: Resolution | None = None
    """WIDTHxHEIGHT in pixels; without one it follows the project's aspect ratio."""


class ScaledResolutionParams(ResolutionParams):
    """A size of one's own, or a ratio's base size times a factor."""

    NOT_FOLLOWED = {
        **dict.fromkeys(
            ("resolution_scale", "resolution_mode"),
            lambda params: "`resolution` says the size" if params.resolution else None,
        ),
        "custom_aspect_ratio": lambda params: (
            "`resolution` says the size"
            if params.resolution
            else None
            if params.resolution_mode == "custom"
            else "`resolution_mode` is not custom"
        ),
    }

    resolution_scale: ResolutionScale = 1.0
    """Factor on the ratio's base size; an explicit `resolution` is never scaled."""

    resolution_mode: Literal["project", "custom"] = "project"
    """Whether the ratio is the project's or `custom_aspect_ratio`."""

    custom_aspect_ratio: AspectRatio | None = None
    """The ratio in mode `custom`."""

    @model_validator(mode="after")
    def _custom_has_a_ratio(self) -> Self:
        if self.resolution_mode == "custom" and not (self.custom_aspect_ratio or self.resolution):
            raise ValueError("`resolution_mode` custom needs `custom_aspect_ratio` or `resolution`")
        return self

    def settled_resolution(self, of_project: str) -> str:
        """The size that is stored; scaled sizes are brought to the nearest even numbers."""
        if self.resolution:
            return self.resolution
        base = of_project
        if self.resolution_mode == "custom" and self.custom_aspect_ratio:
            base = ASPECT_RATIOS[self.custom_aspect_ratio]
        if self.resolution_scale == 1:
            return base
        return "x".join(str(2 * round(side * self.resolution_scale / 2)) for side in size_of(base))
