"""A character that moves like a person in a video."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from tasks_lib.billing.cost import CostFactors
from tasks_lib.params.base import MediaReference, Text
from tasks_lib.params.lineage import ShotParams
from tasks_lib.params.model import ModelParams, SeedParams
from tasks_lib.types import drawing
from tasks_lib.types.base import Preparation, Prepared, TaskParams, TaskType, stored

DEFAULT_PROMPT = "natural expression; keep the outfit and the background as they are"


class AnimateCharacterParams(SeedParams, ModelParams, ShotParams, TaskParams):
    """A picture of a character, and a video of the motion."""

    character_image_url: MediaReference
    """The character."""

    motion_video_url: MediaReference
    """The video whose motion is taken."""

    mode: Literal["animate", "replace"] = "animate"
    """Let the character move like the person, or put it in the person's place in the video."""

    resolution: Literal["480p", "720p"] = "720p"
    """Height of the film."""

    prompt: Text = DEFAULT_PROMPT
    """What it shows, in words."""


def prepare(params: AnimateCharacterParams, _: Preparation) -> Prepared:
    """A new video; its seed is settled here."""
    return Prepared(stored(params, seed=params.settled_seed()), params.new_generation("video"), params.model_name)


TASK_TYPE = TaskType(
    name="animate_character",
    params=AnimateCharacterParams,
    run_type="api",
    category="generation",
    display_name="Character Animate",
    description="Makes a character move like a person in a video.",
    prepare=prepare,
    execute=drawing.make_animation,
    engine_kind="animate",
    base_cost_per_second=Decimal("0.000001"),
    billing_type="per_unit",
    unit_cost=Decimal("0.20"),
    cost_factors=CostFactors(resolution={"480p": Decimal(1), "720p": Decimal(2)}),
    tool_type="character-animate",
    content_type="video",
)
