"""Sampling in two or three phases, each with its own guidance and adapters."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tasks_lib.params.base import Guidance, Locator, Name, ParamGroup, Steps


def _check_multiplier(value: str) -> str:
    if not re.fullmatch(r" *[0-9]+(\.[0-9]+)?( *, *[0-9]+(\.[0-9]+)?)* *", value):
        raise ValueError("must be a number, or numbers with commas between them for a ramp over the steps")
    return value


class PhaseLora(ParamGroup):
    """An adapter in one phase."""

    url: Locator
    """Where the engine finds it."""

    multiplier: Annotated[str, AfterValidator(_check_multiplier)] = "1.0"
    """Its strength, or one for each step: `1.0,0.5`."""


class Phase(ParamGroup):
    """A run of steps that share settings."""

    phase: Annotated[int, Field(ge=1, le=3)]
    """Its number, from 1."""

    guidance_scale: Guidance = 1.0
    """How strictly the prompt is followed."""

    loras: Annotated[list[PhaseLora], Field(max_length=16)] = []
    """Adapters of this phase."""


class PhaseConfig(ParamGroup):
    """The whole schedule."""

    REFUSED = {"mode": "say it as `model_type` of the task"}

    num_phases: Annotated[int, Field(ge=2, le=3)]
    """How many phases there are."""

    steps_per_phase: Annotated[list[Steps], Field(min_length=2, max_length=3)]
    """Inference steps of each phase; their sum is the number of steps."""

    phases: Annotated[list[Phase], Field(min_length=2, max_length=3)]
    """The phases in order."""

    flow_shift: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Shift of the noise schedule."""

    sample_solver: Name = "euler"
    """Name of the sampler."""

    model_switch_phase: Annotated[int, Field(ge=1, le=2)] = 1
    """After this phase the second model of a pair takes over."""

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if not self.num_phases == len(self.phases) == len(self.steps_per_phase):
            raise ValueError("num_phases must equal the lengths of phases and steps_per_phase")
        if [phase.phase for phase in self.phases] != list(range(1, self.num_phases + 1)):
            raise ValueError("phases must be numbered from 1 in order")
        return self
