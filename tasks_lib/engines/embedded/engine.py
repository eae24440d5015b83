"""The embedded engine: in-between frames from the pixels alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from math import cos, pi

import cv2
import numpy as np

from tasks_lib.engines.base import (
    Cancelled,
    EngineResult,
    Estimate,
    Frame,
    InbetweenRequest,
    IsCancelled,
    OnProgress,
    Provenance,
    Request,
    watched,
)
from tasks_lib.engines.embedded.synthesis import WORKING_SIDES, Between
from tasks_lib.errors import EngineError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import tail_frames
from tasks_lib.models import WEIGHTLESS

MIN_CONFIDENCE = 0.12
"""Below this two images are not taken for one scene, and are cross-faded.

Calibrated on 92 related pairs (framings, homographies and warps of photographs, real clips up to 8 frames apart),
whose lowest was 0.38, and on 110 pairs of unrelated photographs and frames, whose highest was 0.05: between the two,
nearer the latter, since even a doubtful flow shows motion where a cross-fade shows none.
"""

_PUSH = 1.15  # how much closer the camera ends when there is nowhere to travel to
_SECONDS_PER_PIXEL = 2.2e-7
_PAIR_SECONDS = 1.5


class EmbeddedEngine:
    """Optical flow where two images belong together, an eased cross-fade where they do not, and it says which."""

    name = "embedded"

    def capabilities(self) -> frozenset[str]:
        """What can be made from pixels alone: whatever follows a prompt needs a model."""
        return WEIGHTLESS

    def estimate(self, request: Request) -> Estimate:
        """From measurements on two cores of 2 GHz."""
        asked = self._require(request)
        pixels = asked.width * asked.height
        seconds = _PAIR_SECONDS * (asked.end is not None) + asked.frames * pixels * _SECONDS_PER_PIXEL
        return Estimate(seconds, 60 * pixels + 400 * min(pixels, WORKING_SIDES[1] ** 2))

    def run(self, request: Request, *, on_progress: OnProgress, cancelled: IsCancelled) -> EngineResult:
        """Measure the motion now, make the frames as they are drawn."""
        asked = self._require(request)
        if cancelled():
            raise Cancelled("stopped before the first frame")
        start = load_image(asked.start, asked.width, asked.height)
        method, confidence, at = _travel(start, asked)
        frames = watched(_frames(asked, at), asked.frames, on_progress=on_progress, cancelled=cancelled)
        notes = ["the prompt was not followed: this engine only moves pixels"] if asked.prompt else []
        if method == "crossfade":
            notes.append(f"the two images do not show one scene (confidence below {MIN_CONFIDENCE})")
        return EngineResult(
            frames,
            Provenance(
                engine=self.name,
                method=method,
                confidence=confidence,
                seed=asked.seed,
                versions={"opencv": cv2.__version__, "numpy": np.__version__, "av": version("av")},
                notes=tuple(notes),
            ),
        )

    def _require(self, request: Request) -> InbetweenRequest:
        if not isinstance(request, InbetweenRequest):
            raise EngineError(
                f"the engine `{self.name}` cannot serve `{request.kind}`, which needs a model: install the extra `gpu`"
                " and describe one in UNITASK_MODELS"
            )
        return request


def _travel(start: Frame, request: InbetweenRequest) -> tuple[str, float | None, Callable[[float], Frame]]:
    """The method, its confidence, and the frame at each time from 0 to 1."""
    if request.end is None:
        return "push_in", None, lambda t: _pushed_in(start, _eased(t))
    end = load_image(request.end, request.width, request.height)
    between = Between(start, end)
    confidence = round(between.motion.confidence, 4)
    if confidence >= MIN_CONFIDENCE:
        return "flow", confidence, between.at
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
