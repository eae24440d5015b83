"""How much moves."""

from __future__ import annotations

from typing import Literal

from tasks_lib.params.base import Fraction, ParamGroup


class VideoMotionParams(ParamGroup):
    """Motion of a generated video."""

    amount_of_motion: Fraction = 0.5
    """From 0, nearly still, to 1."""

    motion_mode: Literal["basic", "presets", "advanced"] = "basic"
    """Which of the motion settings a form shows."""
