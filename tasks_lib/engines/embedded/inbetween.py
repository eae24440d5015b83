"""In-between frames from the pixels alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from math import cos, pi
from typing import Protocol

import cv2
import numpy as np

from tasks_lib.engines.base import (
    EngineResult,
    Estimate,
    Frame,
    InbetweenRequest,
    IsCancelled,
    OnProgress,
    watched,
)
from tasks_lib.engines.embedded.provenance import made
from tasks_lib.engines.embedded.synthesis import WORKING_SIDES, Between
from tasks_lib.errors import EngineError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import tail_frames

MIN_CONFIDENCE = 0.12
"""Below this two images are not taken for one scene, and are cross-faded.

Calibrated on 92 related pairs (framings, homographies and warps of photographs, real clips up to 8 frames apart),
whose lowest was 0.38, and on 110 pairs of unrelated photographs and frames, whose highest was 0.05: between the two,
nearer the latter, since even a doubtful flow shows motion where a cross-fade shows none.
"""

_PUSH = 1.15  # how much closer the camera ends when there is nowhere to travel to
_SECONDS_PER_PIXEL = 2.2e-7
_PAIR_SECONDS = 1.5


def estimate(request: InbetweenRequest) -> Estimate:
    """From measurements on two cores of 2 GHz."""
    pixels = request.width * request.height
    seconds = _PAIR_SECONDS * (request.end is not None) + request.frames * pixels * _SECONDS_PER_PIXEL
    return Estimate(seconds, 60 * pixels + 400 * min(pixels, WORKING_SIDES[1] ** 2))


class Pair(Protocol):
    """Two images, and what lies between them."""

    @property
    def confidence(self) -> float:
        """How much they look like one scene, 0 to 1."""

    def at(self, t: float, /) -> Frame:
        """The frame at time t from 0 (exactly the first) to 1 (exactly the second)."""


def travel(
    request: InbetweenRequest,
    *,
    on_progress: OnProgress,
    cancelled: IsCancelled,
    method: str = "flow",
    pair: Callable[[Frame, Frame], Pair] = Between,
) -> EngineResult:
    """Motion by `method` where the two images belong together, an eased cross-fade where not, and it says which.

    Without an end image the camera pushes in. The motion is measured now, the frames are made as they are drawn.
    """
    if request.shown:
        raise EngineError("this engine moves from one image to another; pictures between them need a WanVACEPipeline")
    start = load_image(request.start, request.width, request.height)
    method, confidence, at = _travel(start, request, method, pair)
    notes = []
    if method == "crossfade":
        notes.append(f"the two images do not show one scene (confidence below {MIN_CONFIDENCE})")
    return EngineResult(
        watched(_frames(request, at), request.frames, on_progress=on_progress, cancelled=cancelled),
        made(method, request.seed, notes, confidence=confidence, versions={"av": version("av")}),
    )


def _travel(
    start: Frame, request: InbetweenRequest, method: str, pair: Callable[[Frame, Frame], Pair]
) -> tuple[str, float | None, Callable[[float], Frame]]:
    """The method, its confidence, and the frame at each time from 0 to 1."""
    if request.end is None:
        return "push_in", None, lambda t: _pushed_in(start, _eased(t))
    end = load_image(request.end, request.width, request.height)
    between = pair(start, end)
    confidence = round(between.confidence, 4)
    if confidence >= MIN_CONFIDENCE:
        return method, confidence, between.at
    return "crossfade", confidence, lambda t: _crossfaded(start, end, _eased(t))


def _frames(request: InbetweenRequest, at: Callable[[float], Frame]) -> Iterator[Frame]:
    if request.context:
        for frame in tail_frames(request.context.video, request.context.frames):
            if frame.shape != (request.height, request.width, 3):
                raise EngineError(
                    f"the context is {frame.shape[1]} x {frame.shape[0]}, the frames {request.width} x {request.height}"
                )
            yield frame
    yield from map(at, request.times())


def _eased(t: float) -> float:
    return (1 - cos(pi * t)) / 2


def _crossfaded(start: Frame, end: Frame, share: float) -> Frame:
    return np.asarray(cv2.addWeighted(start, 1 - share, end, share, 0), np.uint8)


def _pushed_in(image: Frame, share: float) -> Frame:
    height, width = image.shape[:2]
    zoom = _PUSH**share
    closer = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, zoom)
    return np.asarray(
        cv2.warpAffine(image, closer, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
