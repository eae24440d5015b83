"""How much moves, and the colours after it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks_lib.params.base import OF_FORMS, Fraction, Name, ParamGroup


class VideoMotionParams(ParamGroup):
    """Motion of a generated video."""

    NOT_FOLLOWED = {
        "amount_of_motion": "no engine here has such a control; a guide video steers the motion",
        "motion_mode": OF_FORMS,
    }

    amount_of_motion: Fraction = 0.5
    """From 0, nearly still, to 1."""

    motion_mode: Literal["basic", "presets", "advanced"] = "basic"
    """Which of the motion settings a form shows."""


class FormParams(ParamGroup):
    """What a form needs to show a request again; nothing is made from it."""

    NOT_FOLLOWED = {
        "advanced_mode": OF_FORMS,
        "selected_phase_preset_id": OF_FORMS,
        "debug": "how much is logged is a setting of the worker",
    }

    advanced_mode: bool = False
    """Whether the form shows the phases instead of steps and motion."""

    selected_phase_preset_id: Name | None = None
    """The preset that `phase_config` came from."""

    debug: bool = False
    """Keep more in the logs."""

    use_svi: Literal[False] = False
    """Withdrawn; only false."""


class ColourMatchParams(ParamGroup):
    """Colours across the joints of a film."""

    colour_match: bool = True
    """Bring the colours of what a model makes to those of the frames that it was given: the images, or the context."""


class ColourParams(ColourMatchParams):
    """Correction of every segment after the first, against the drift of chained models."""

    after_first_post_generation_saturation: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Factor on the saturation; 1 changes nothing."""

    after_first_post_generation_brightness: Annotated[float, Field(ge=-1, le=1)] = 0.0
    """Added to the brightness, as a share of white; 0 changes nothing."""
