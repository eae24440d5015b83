"""Pictures from words, and edits of pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks_lib.params.base import (
    Fraction,
    MediaReference,
    ParamGroup,
    Seed,
    Steps,
    Strength,
    Text,
    Words,
)
from tasks_lib.params.lineage import LineageParams, ShotParams
from tasks_lib.params.loras import AS_LORAS, LoraParams
from tasks_lib.params.model import EditSeedParams, ModelParams, SeedParams
from tasks_lib.params.resolution import ResolutionParams, ScaledResolutionParams

ReferenceMode = Literal["style", "subject", "style-character", "scene", "custom"]

_BY_MODE = {
    "subject": {"style_reference_strength": 1.1, "subject_strength": 0.5},
    "scene": {"style_reference_strength": 1.1, "in_this_scene": True, "in_this_scene_strength": 0.5},
}
_OTHERWISE = {
    "style_reference_strength": 1.0,
    "subject_strength": 0.0,
    "in_this_scene": False,
    "in_this_scene_strength": 0.0,
}


class PictureSettings(ScaledResolutionParams, ModelParams, SeedParams, LoraParams, ShotParams):
    """What a picture from a prompt is made with, beside the prompt."""

    negative_prompt: Text = ""
    """What it must not show."""

    seed: Seed = 11111
    """Same seed, same inputs, same result."""

    steps: Steps = 12
    """Inference steps."""


class ImageParams(PictureSettings):
    """A picture from a prompt."""

    prompt: Words
    """What it shows."""


def _without_second_pass(params: HiresParams) -> str | None:
    return None if params.hires_scale else "there is no second pass without `hires_scale`"


class HiresParams(ParamGroup):
    """A second, larger pass over the picture; `hires_scale` switches it on."""

    NOT_FOLLOWED = {
        **dict.fromkeys(("hires_steps", "hires_denoise"), _without_second_pass),
        **dict.fromkeys(
            ("lightning_lora_strength_phase_1", "lightning_lora_strength_phase_2"),
            "no model here has a speed adapter apart; give it as one of `loras`",
        ),
    }

    hires_scale: Annotated[float, Field(ge=1, le=4)] | None = None
    """Factor on width and height."""

    hires_steps: Steps | None = None
    """Inference steps of the second pass."""

    hires_denoise: Fraction | None = None
    """How much of the first pass is made anew: 0 keeps it."""

    lightning_lora_strength_phase_1: Strength | None = None
    """Strength of the model's own speed adapter in the first pass."""

    lightning_lora_strength_phase_2: Strength | None = None
    """Its strength in the second pass."""


class HiresFix(HiresParams):
    """The second pass of an edit."""

    REFUSED = {"additional_loras": AS_LORAS}

    num_inference_steps: Steps | None = None
    """Inference steps of the first pass."""


class ReferenceParams(ParamGroup):
    """Pictures that lend their style, their subject or their scene. What is unset follows `reference_mode`."""

    NOT_FOLLOWED = dict.fromkeys(
        (
            *("subject_reference_image", "reference_mode", "style_reference_strength", "subject_strength"),
            *("subject_description", "in_this_scene", "in_this_scene_strength"),
        ),
        lambda params: None if params.style_reference_image else "there is no `style_reference_image`",
    )

    style_reference_image: MediaReference | None = None
    """The picture whose style is taken."""

    subject_reference_image: MediaReference | None = None
    """The picture whose subject is taken; without one `style_reference_image`."""

    reference_mode: ReferenceMode = "style"
    """What is taken: style alone, the subject (style 1.1, subject 0.5), both, the scene (style 1.1, scene 0.5), or
    whatever the strengths say."""

    style_reference_strength: Strength | None = None
    """How strongly the style acts; 1 unless the mode says otherwise."""

    subject_strength: Strength | None = None
    """How strongly the subject acts; 0 unless the mode says otherwise."""

    subject_description: Text = ""
    """The subject in words."""

    in_this_scene: bool | None = None
    """Put the subject into the reference's scene."""

    in_this_scene_strength: Strength | None = None
    """How strongly the scene acts."""

    def settled_references(self) -> dict[str, object]:
        """What the unset fields become; nothing for a request without a reference."""
        if self.style_reference_image is None:
            return {}
        defaults = {**_OTHERWISE, **_BY_MODE.get(self.reference_mode, {})}
        unset = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return {"subject_reference_image": self.subject_reference_image or self.style_reference_image, **unset}


class EditParams(ResolutionParams, EditSeedParams, ModelParams, LoraParams, LineageParams):
    """An edit of a picture by words."""

    prompt: Words
    """What is to change, or what the changed part shows."""

    negative_prompt: Text = ""
    """What it must not show."""

    qwen_edit_model: Literal["qwen-edit", "qwen-edit-2509", "qwen-edit-2511"] = "qwen-edit"
    """Which version of the edit model."""

    hires_fix: HiresFix | None = None
    """A second, larger pass."""
