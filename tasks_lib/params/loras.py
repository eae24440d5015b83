"""Adapters on top of a model: one shape everywhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field

from tasks_lib.params.base import Locator, ParamGroup, Strength

AS_LORAS = "send them as `loras: [{path, strength}]`"


class Lora(ParamGroup):
    """One adapter and how strongly it acts."""

    path: Annotated[Locator, Field(validation_alias=AliasChoices("path", "url"))]
    """Where the engine finds it: a name, a path on the worker, a hub id or a URL. `url` is taken for it too."""

    strength: Annotated[Strength, Field(validation_alias=AliasChoices("strength", "scale"))] = 1.0
    """0 has no effect, 1 is what it was trained for; at most 2. `scale` is taken for it too."""


class LoraParams(ParamGroup):
    """Adapters that a task loads."""

    REFUSED = dict.fromkeys(("additional_loras", "lora_names", "lora_multipliers"), AS_LORAS)

    loras: Annotated[list[Lora], Field(max_length=16)] = []
    """Adapters, applied together."""
