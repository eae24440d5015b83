"""Adapters on top of a model: one shape everywhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks_lib.params.base import ParamGroup, Strength


class Lora(ParamGroup):
    """One adapter and how strongly it acts."""

    path: Annotated[str, Field(min_length=1, max_length=1_024)]
    """Where the engine finds it: a name, a path on the worker, or a hub id."""

    strength: Strength = 1.0
    """0 has no effect, 1 is what it was trained for; at most 2."""


class LoraParams(ParamGroup):
    """Adapters that a task loads."""

    loras: Annotated[list[Lora], Field(max_length=16)] = []
    """Adapters, applied together."""
