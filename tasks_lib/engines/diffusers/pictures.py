"""The picture pipelines of Qwen-Image, Qwen-Image-Edit and Z-Image: generate, vary, edit, inpaint."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from tasks_lib.engines.base import EditRequest, Frame, GenerateRequest, InpaintRequest, PromptedRequest, VaryRequest
from tasks_lib.engines.diffusers.run import Made, Run, cropped, drawn_size, frames_of, padded
from tasks_lib.media.images import load_image, read_picture

EDIT_PIXELS = 1024 * 1024
"""To so many pixels Qwen's edit pipelines bring the pictures that they are shown, whatever the size of the result."""


def generate(run: Run, request: GenerateRequest) -> Made:
    """A picture from words alone."""
    return Made(_pictures(run, request), "text_to_image")


def vary(run: Run, request: VaryRequest) -> Made:
    """A picture that starts from another, with as much of its noise as the strength says."""
    if request.strength == 0:
        return Made([load_image(request.image, request.width, request.height)], "image_to_image")
    source = _shown(load_image(request.image, request.width, request.height), request)
    return Made(_pictures(run, request, image=source, strength=request.strength), "image_to_image")


def edit(run: Run, request: EditRequest) -> Made:
    """An edit by words; the pictures are shown whole, each in its own shape."""
    images: Any = [Image.fromarray(read_picture(path).pixels) for path in request.images]
    several = type(run.pipeline).__name__ == "QwenImageEditPlusPipeline"
    notes = [] if several or len(images) == 1 else ["only the first picture was shown: the model takes one"]
    return Made(_pictures(run, request, image=images if several else images[0]), "edit", tuple(notes))


def inpaint(run: Run, request: InpaintRequest) -> Made:
    """The masked part is drawn, and pasted into the picture by the mask, so that nothing else changes at all."""
    source = load_image(request.image, request.width, request.height)
    mask = load_image(request.mask, request.width, request.height)
    inputs = {"image": _shown(source, request), "mask_image": _shown(mask, request), "strength": 1.0}
    (drawn,) = _pictures(run, request, **inputs)
    share = mask.mean(axis=2, keepdims=True) / 255
    return Made([np.asarray((source * (1 - share) + drawn * share).round(), np.uint8)], "inpaint")


def _pictures(run: Run, request: PromptedRequest, **arguments: Any) -> list[Frame]:
    width, height = drawn_size(request.width, request.height)
    with _edit_pixels(run):
        made = run.call(run.steps(width, height), height=height, width=width, **_words(run, request), **arguments)
    return [_fitted(frame, (width, height), request) for frame in frames_of(made.images)]


def _fitted(frame: Frame, drawn: tuple[int, int], request: PromptedRequest) -> Frame:
    """Qwen's edit under a mask chooses its own size; everything else draws what it was asked for."""
    if (frame.shape[1], frame.shape[0]) != drawn:
        frame = np.asarray(Image.fromarray(frame).resize(drawn, Image.Resampling.LANCZOS))
    return cropped(frame, request.width, request.height)


def _shown(frame: Frame, request: PromptedRequest) -> Image.Image:
    return Image.fromarray(padded(frame, *drawn_size(request.width, request.height)))


def _words(run: Run, request: PromptedRequest) -> dict[str, Any]:
    """The prompts, and the guidance under the name that the family has for it."""
    guidance = run.plan.steps[0].guidance
    if type(run.pipeline).__name__.startswith("Qwen"):
        # Without a negative prompt these take no guidance at all; a blank one is what they were trained with.
        words: dict[str, Any] = {"prompt": request.prompt, "negative_prompt": request.negative_prompt or " "}
        name = "true_cfg_scale"
    else:
        words = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
        name = "guidance_scale"
    if guidance is not None:
        words[name] = guidance
        if guidance <= 1:
            del words["negative_prompt"]
    return words


@contextmanager
def _edit_pixels(run: Run) -> Iterator[None]:
    """Bring down, for one run, the size that is written into the module of an edit pipeline, where its row says so."""
    module = sys.modules[type(run.pipeline).__module__]
    original = getattr(module, "calculate_dimensions", None)
    if original is None or run.edit_pixels is None:
        yield
        return
    share = run.edit_pixels / EDIT_PIXELS

    def smaller(area: int, ratio: float) -> Any:
        return original(area * share, ratio)

    module.calculate_dimensions = smaller  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.calculate_dimensions = original  # type: ignore[attr-defined]
