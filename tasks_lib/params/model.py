"""Which model makes it, and from which noise."""

from __future__ import annotations

import random
from typing import Literal

from tasks_lib.params.base import SEED_MAX, Name, ParamGroup, Seed, Steps
from tasks_lib.params.phases import PhaseConfig

VIDEO_SEED_LIMIT = 1_000_000


class SeedParams(ParamGroup):
    """The noise that a result starts from."""

    NOT_FOLLOWED = {"seed": lambda params: "`random_seed` drew another" if params.random_seed else None}

    seed: Seed = 789
    """Same seed, same inputs, same result."""

    random_seed: bool = False
    """Draw a seed at creation and ignore `seed`; the drawn one is stored."""

    def settled_seed(self, limit: int = VIDEO_SEED_LIMIT) -> int:
        """The seed that is stored: the given one, or one drawn below `limit`."""
        return random.randrange(limit) if self.random_seed else self.seed


class EditSeedParams(ParamGroup):
    """The noise of an edit."""

    seed: Seed | None = None
    """Same seed, same inputs, same result; without one it is drawn at creation, and stored."""

    def settled_seed(self) -> int:
        """The seed that is stored."""
        return random.randrange(SEED_MAX) if self.seed is None else self.seed


class ModelParams(ParamGroup):
    """Which model is used."""

    model_name: Name | None = None
    """Alias of a configured model; without one the worker's default engine."""


class VideoModelParams(SeedParams, ModelParams):
    """The model of a video and its sampling."""

    NOT_FOLLOWED = {
        "model_type": "a model's own pipeline decides it",
        "steps": lambda params: "`phase_config` sets its own" if params.phase_config else None,
    }

    model_type: Literal["i2v", "vace"] | None = None
    """What the model is conditioned on: first and last frame, or a masked guide."""

    steps: Steps = 20
    """Inference steps; a `phase_config` sets its own."""

    phase_config: PhaseConfig | None = None
    """Sampling in phases."""
