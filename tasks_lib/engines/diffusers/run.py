"""One request on one pipeline: the arguments that every pipeline takes, and what comes out, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tasks_lib.engines.base import Frame, IsCancelled, OnStep
from tasks_lib.engines.diffusers.lora import Adapters
from tasks_lib.engines.diffusers.phases import Plan
from tasks_lib.engines.diffusers.steps import Steps, as_frame
from tasks_lib.errors import EngineError

SIDE = 16
"""Width and height of what is drawn are multiples of it: a latent pixel covers 8, and patches are two of those."""


@dataclass(frozen=True)
class Made:
    """What a pipeline drew, by which method, and what the person who asked should know about it."""

    frames: list[Frame]
    method: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A pipeline, ready for one request."""

    pipeline: Any
    plan: Plan
    adapters: Adapters
    seed: int
    on_progress: OnStep
    cancelled: IsCancelled
    previews: bool
    edit_pixels: int | None = None
    pose: str | None = None

    def steps(self, width: int, height: int, *, times: int = 1) -> Steps:
        """The callback of a call that goes through the plan so many times."""
        total = times * len(self.plan.steps)
        return Steps(self.plan, self.adapters, (width, height), self.on_progress, self.cancelled, self.previews, total)

    def call(self, steps: Steps, **arguments: Any) -> Any:
        """Draw, from the noise of the seed, which is the same on every device."""
        return self.pipeline(
            num_inference_steps=len(self.plan.steps),
            generator=torch.Generator("cpu").manual_seed(self.seed),
            output_type="np",
            callback_on_step_end=steps,
            **arguments,
        )


def frames_of(pictures: Any) -> list[Frame]:
    """8-bit frames of what a pipeline returned. Raises `EngineError` for values that are no numbers."""
    frames = []
    for picture in pictures:
        if not np.isfinite(picture).all():
            raise EngineError("the model gave values that are no numbers; another `dtype` in UNITASK_MODELS may help")
        frames.append(as_frame(picture))
    return frames


def drawn_size(width: int, height: int) -> tuple[int, int]:
    """The least size that a pipeline can draw and that holds the asked one."""
    return -(-width // SIDE) * SIDE, -(-height // SIDE) * SIDE


def padded(frame: Frame, width: int, height: int) -> Frame:
    """A frame with its right and lower edges drawn out to a size: `cropped` gives it back exactly."""
    more = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
    return np.pad(frame, more, mode="edge")


def cropped(frame: Frame, width: int, height: int) -> Frame:
    """The upper left of a frame."""
    return np.ascontiguousarray(frame[:height, :width])
