"""How two clips are joined."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field

from tasks_lib.params.base import (
    SEED_MAX,
    Fraction,
    Guidance,
    MediaReference,
    Name,
    ParamGroup,
    Resolution,
    Steps,
    Text,
)
from tasks_lib.params.loras import Lora, LoraParams
from tasks_lib.params.motion import ColourMatchParams
from tasks_lib.params.phases import PhaseConfig

MAX_GAP = 161
MAX_CONTEXT = 81

Context = Annotated[int, Field(ge=1, le=MAX_CONTEXT)]
Gap = Annotated[int, Field(ge=1, le=MAX_GAP)]
ModelName = Annotated[Name | None, Field(validation_alias=AliasChoices("model_name", "model"))]
InferenceSteps = Annotated[Steps, Field(validation_alias=AliasChoices("steps", "num_inference_steps"))]
JoinSeed = Annotated[int, Field(ge=-1, le=SEED_MAX)]


def _from_nothing(strength: float) -> float:
    if strength < 1:
        raise ValueError("no pipeline here starts from the frames of a clip; leave it out, or send 1")
    return strength


def _zero_is_off(value: Any) -> Any:
    return None if type(value) in (int, float) and value == 0 else value


class JoinSettings(ColourMatchParams, LoraParams):
    """What is made between two clips."""

    NOT_FOLLOWED = {
        **dict.fromkeys(
            ("steps", "guidance_scale"), lambda params: "`phase_config` sets its own" if params.phase_config else None
        ),
        "vid2vid_init_strength": "no pipeline here starts from the frames of a clip, so all is made anew",
    }

    prompt: Text = ""
    """What the bridge shows."""

    negative_prompt: Text = ""
    """What it must not show."""

    context_frame_count: Context = 8
    """Frames of each clip that the model sees, and over which the bridge is cross-faded with it."""

    gap_frame_count: Gap = 53
    """Frames to make; brought down so that the bridge has 4n+1 frames."""

    replace_mode: bool = True
    """true: the made frames replace as many of the clips, half of each. false: they come in between."""

    keep_bridging_images: bool = False
    """Show the last picture of the clip before and the first of the clip after inside the gap, at a third and at two
    thirds of it; needs a model that is a WanVACEPipeline."""

    vid2vid_init_strength: Annotated[
        Annotated[Fraction, AfterValidator(_from_nothing)] | None, BeforeValidator(_zero_is_off)
    ] = None
    """Only 0, which is off, or 1, which is as without: no pipeline here starts VACE from frames that are there."""

    model_name: ModelName = None
    """Alias of a configured model; `model` is taken for it too. Without one the worker's default engine."""

    steps: InferenceSteps = 6
    """Inference steps; `num_inference_steps` is taken for it too."""

    guidance_scale: Guidance = 3.0
    """How strictly the prompt is followed."""

    phase_config: PhaseConfig | None = None
    """Sampling in phases."""

    seed: JoinSeed = -1
    """Same seed, same inputs, same result; -1 draws one at creation."""


class OneJoin(ParamGroup):
    """What one join has of its own."""

    REFUSED = dict.fromkeys(("resolution", "fps", "priority"), "is one for the whole film")

    prompt: Text | None = None
    """What this bridge shows."""

    negative_prompt: Text | None = None
    """What it must not show."""

    context_frame_count: Context | None = None
    """Frames of each clip that the model sees here."""

    gap_frame_count: Gap | None = None
    """Frames to make here."""

    replace_mode: bool | None = None
    """Whether they replace frames of the clips."""

    model_name: ModelName = None
    """The model of this bridge."""

    steps: Annotated[Steps | None, Field(validation_alias=AliasChoices("steps", "num_inference_steps"))] = None
    """Its inference steps."""

    guidance_scale: Guidance | None = None
    """How strictly its prompt is followed."""

    seed: JoinSeed | None = None
    """Its seed; -1 draws one."""

    loras: Annotated[list[Lora] | None, Field(max_length=16)] = None
    """Its adapters; an empty list means none."""


class ClipForm(ParamGroup):
    """The size and rate that all parts of a film are brought to."""

    first_clip: MediaReference
    """The clip that decides what is not given."""

    resolution: Resolution | None = None
    """WIDTHxHEIGHT in pixels; without one as the first clip."""

    fps: Annotated[float, Field(ge=1, le=120)] | None = None
    """Frames per second; without one as the first clip."""
