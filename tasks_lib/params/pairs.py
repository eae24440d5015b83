"""Overrides for single segments of a travel; null keeps what the travel says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks_lib.params.base import Fraction, ParamGroup, Strength
from tasks_lib.params.loras import Lora
from tasks_lib.params.motion import VideoMotionParams
from tasks_lib.params.phases import PhaseConfig
from tasks_lib.params.structure import Treatment

MAX_PAIRS = 200


class PairMotion(ParamGroup):
    """The motion of one segment, where it differs."""

    NOT_FOLLOWED = VideoMotionParams.NOT_FOLLOWED

    amount_of_motion: Fraction | None = None
    """From 0, nearly still, to 1."""

    motion_mode: Literal["basic", "presets", "advanced"] | None = None
    """Which of the motion settings a form shows."""

    structure_motion_strength: Strength | None = None
    """How strongly the guide acts in this segment."""

    structure_treatment: Treatment | None = None
    """How the guide is fitted in this segment."""

    uni3c_end_percent: Fraction | None = None
    """The share of the inference steps after which the guide is let go."""


class PairParams(ParamGroup):
    """One entry for each segment, or none at all."""

    pair_phase_configs: Annotated[list[PhaseConfig | None], Field(max_length=MAX_PAIRS)] = []
    """Sampling of single segments."""

    pair_loras: Annotated[list[list[Lora] | None], Field(max_length=MAX_PAIRS)] = []
    """Adapters of single segments; an empty list means none."""

    pair_motion_settings: Annotated[list[PairMotion | None], Field(max_length=MAX_PAIRS)] = []
    """Motion of single segments."""
