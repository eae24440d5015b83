"""What happens after each inference step: somebody may have cancelled, wants to see how far it is, or a phase ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tasks_lib.engines.base import Cancelled, Frame, IsCancelled, OnStep
from tasks_lib.engines.diffusers.lora import Adapters
from tasks_lib.engines.diffusers.phases import Plan

PREVIEW_SECONDS = 5.0
"""At most so often a preview is decoded, which takes about as long as a step."""


@dataclass
class Steps:
    """Called by a pipeline after each step. `total` counts the steps of all segments of a long video."""

    plan: Plan
    adapters: Adapters
    size: tuple[int, int]
    on_progress: OnStep
    cancelled: IsCancelled
    previews: bool
    total: int
    guidance: torch.Tensor = field(default_factory=lambda: torch.tensor(1.0))
    """Given to the pipeline as its guidance: a tensor, because a number could not change from step to step."""

    def __post_init__(self) -> None:
        self._done = 0
        self._seen = time.monotonic()
        self._prepare(0)

    def __call__(self, pipeline: Any, step: int, _timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        """Raises `Cancelled`: a pipeline that is asked to stop in its own way returns what is half done as if whole."""
        if self.cancelled():
            raise Cancelled(f"stopped after step {self._done + 1} of {self.total}")
        self._done += 1
        self._prepare((step + 1) % len(self.plan.steps))
        self.on_progress(self._done, self.total, self._preview(pipeline, given))
        return given

    def _prepare(self, step: int) -> None:
        if self.plan.adapters:
            self.adapters.set_strengths(step)
        guidance = self.plan.steps[step].guidance
        if guidance is not None:
            self.guidance.fill_(guidance)

    def _preview(self, pipeline: Any, given: dict[str, Any]) -> Frame | None:
        if not self.previews or self._done == self.total or time.monotonic() - self._seen < PREVIEW_SECONDS:
            return None
        self._seen = time.monotonic()
        return decoded(pipeline, given["latents"], *self.size)


def decoded(pipeline: Any, latents: torch.Tensor, width: int, height: int) -> Frame:
    """A picture of what latents hold so far: of a video, the frame in its middle."""
    if latents.ndim == 3:
        latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    if latents.ndim == 5:
        middle = latents.shape[2] // 2
        latents = latents[:, :, middle : middle + 1]
    config, values = pipeline.vae.config, latents[:1].to(pipeline.vae.dtype)
    if mean := config.get("latents_mean"):
        by_channel = (1, -1, 1, 1, 1)
        values = values * values.new_tensor(config["latents_std"]).view(by_channel)
        values = values + values.new_tensor(mean).view(by_channel)
    else:
        values = values / config["scaling_factor"] + (config.get("shift_factor") or 0)
    picture = pipeline.vae.decode(values, return_dict=False)[0]
    picture = picture[0] if picture.ndim == 4 else picture[0, :, 0]
    return as_frame(((picture.float() + 1) / 2).permute(1, 2, 0).cpu().numpy())


def as_frame(picture: np.ndarray[Any, Any]) -> Frame:
    """From height x width x 3 of 0 to 1 to 8 bits."""
    return np.asarray((np.clip(picture, 0, 1) * 255).round(), np.uint8)
