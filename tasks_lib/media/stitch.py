"""Joining rendered segments into the film, and its contact sheet. Only the overlap is held in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tasks_lib.engines.base import Frame, IsCancelled, OnProgress, watched
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.video import Picture, Samples, count_packets, of_planes, planes, read_pictures, write_video

Mode = Literal["independent", "chained"]


@dataclass(frozen=True)
class Part:
    """A piece of a film: its pictures, drawn once, and how many there will be."""

    pictures: Iterator[Picture]
    count: int

    @classmethod
    def of(cls, path: Path) -> Part:
        """All of a file."""
        return cls(read_pictures(path), count_packets(path))


def stitch(
    parts: Sequence[Part],
    overlaps: Sequence[int],
    output: Path,
    fps: float,
    *,
    mode: Mode,
    on_progress: OnProgress,
    cancelled: IsCancelled,
    sound: Iterable[Samples] | None = None,
) -> int:
    """Encode the parts as one film and return its number of frames; `sound` is as for `write_video`.

    `overlaps[i]` frames at the end of part i and the start of part i+1 show the same time and are cross-faded.
    In independent mode an overlap of 0 means that the two share their keyframe, which is written once; in chained
    mode it means that they share nothing. Raises `TaskValidationError` when the numbers do not fit one another,
    `EngineError` when a part has fewer frames than its overlaps, `Cancelled` within one frame.
    """
    if not parts or len(overlaps) != len(parts) - 1 or any(o < 0 for o in overlaps):
        raise TaskValidationError(
            f"`overlaps` is {list(overlaps)}; {len(parts)} segments need {len(parts) - 1} of 0 or more",
            "overlaps",
        )
    shared = [max(o, 1) if mode == "independent" else o for o in overlaps]
    total = sum(part.count for part in parts) - sum(shared)
    frames = _joined(parts, overlaps, shared)
    shown = watched(frames, total, on_progress=on_progress, cancelled=cancelled)
    return write_video(output, shown, fps, lossless=False, sound=sound)


def crossfade_weights(n: int) -> list[float]:
    """How much of the later segment each of n overlapping frames shows: (1 - cos(pi t)) / 2, t = (i+1)/(n+1)."""
    return [(1 - cos(pi * (i + 1) / (n + 1))) / 2 for i in range(n)]


def _joined(parts: Sequence[Part], overlaps: Sequence[int], shared: Sequence[int]) -> Iterator[Picture]:
    held: deque[Picture] = deque()
    for index, part in enumerate(parts):
        before, held = held, deque()
        # A keyframe that is merely shared keeps the picture of the earlier segment.
        weights = crossfade_weights(overlaps[index - 1]) if index else []
        keep = shared[index] if index < len(shared) else 0
        count = 0
        for count, picture in enumerate(part.pictures, start=1):
            if before:
                earlier = before.popleft()
                picture = _mix(earlier, picture, weights[count - 1]) if weights else earlier
            held.append(picture)
            if len(held) > keep:
                yield held.popleft()
        if before or len(held) < keep:
            need = max(keep, shared[index - 1] if index else 0)
            raise EngineError(f"segment {index} has {count} frames; its overlaps need {need}")
    yield from held


def _mix(earlier: Picture, later: Picture, weight: float) -> Picture:
    if (
        isinstance(earlier, av.VideoFrame)
        and isinstance(later, av.VideoFrame)
        and earlier.format.name == later.format.name == "gbrp"
    ):
        return of_planes([_blend(a, b, weight) for a, b in zip(planes(earlier), planes(later), strict=True)])
    return _blend(_pixels(earlier), _pixels(later), weight)


def _pixels(picture: Picture) -> Frame:
    return np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) if isinstance(picture, av.VideoFrame) else picture


def _blend(a: NDArray[np.uint8], b: NDArray[np.uint8], weight: float) -> NDArray[np.uint8]:
    if a.shape != b.shape:
        raise EngineError(f"segments of the shapes {a.shape} and {b.shape} cannot be joined")
    return np.asarray(cv2.addWeighted(a, 1 - weight, b, weight, 0), np.uint8)
