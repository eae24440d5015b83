"""Which model makes it, and from which noise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks_lib.params.base import ParamGroup, Seed
from tasks_lib.params.phases import PhaseConfig


class SeedParams(ParamGroup):
    """The noise that a result starts from."""

    seed: Seed = 789
    """Same seed, same inputs, same result."""

    random_seed: bool = False
    """Draw a seed at creation and ignore `seed`; the drawn one is stored."""


class VideoModelParams(SeedParams):
    """The model of a video and its sampling."""

    model_name: Annotated[str, Field(max_length=200)] | None = None
    """Alias of a configured model; without one the worker's default engine."""

    model_type: Literal["i2v", "vace"] | None = None
    """What the model is conditioned on: first and last frame, or a masked guide."""

    steps: Annotated[int, Field(ge=1, le=200)] = 20
    """Inference steps; a `phase_config` sets its own."""

    phase_config: PhaseConfig | None = None
    """Sampling in phases."""
