"""Upscaling by a diffusion model that makes four pixels of one, in each direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from tasks_lib.engines.base import UpscaleRequest
from tasks_lib.engines.diffusers.run import Made, Run, cropped, drawn_size, frames_of, padded
from tasks_lib.media.images import read_picture

FACTOR = 4


def upscale(run: Run, request: UpscaleRequest) -> Made:
    """Four times as large by the model, then to the asked factor by Lanczos."""
    source = read_picture(request.image).pixels
    height, width = source.shape[:2]
    steps = run.steps(width, height)

    def after_step(step: int, timestep: int, latents: torch.Tensor) -> None:
        steps(run.pipeline, step, timestep, {"latents": latents})

    guidance = run.plan.steps[0].guidance
    made: Any = run.pipeline(
        prompt=request.prompt,
        image=Image.fromarray(padded(source, *drawn_size(width, height))),
        num_inference_steps=len(run.plan.steps),
        generator=torch.Generator("cpu").manual_seed(run.seed),
        output_type="np",
        callback=after_step,
        **({} if guidance is None else {"guidance_scale": guidance}),
    )
    (drawn,) = frames_of(made.images)
    larger = cropped(drawn, FACTOR * width, FACTOR * height)
    size = round(width * request.factor), round(height * request.factor)
    if size == (larger.shape[1], larger.shape[0]):
        return Made([larger], "diffusion_x4")
    fitted = np.asarray(Image.fromarray(larger).resize(size, Image.Resampling.LANCZOS))
    return Made([fitted], "diffusion_x4", (f"the model enlarges by {FACTOR}; the rest is Lanczos",))
