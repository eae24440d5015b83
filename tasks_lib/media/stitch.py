"""Joining rendered segments into the film, and its contact sheet. Only the overlap is held in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from math import cos, pi
from pathlib import Path
from typing import Literal

import numpy as np

from tasks_lib.engines.base import Frame, IsCancelled, OnProgress, watched
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.video import count_packets, read_frames, write_video

Mode = Literal["independent", "chained"]


def stitch(
    segments: Sequence[Path],
    overlaps: Sequence[int],
    output: Path,
    fps: float,
    *,
    mode: Mode,
    on_progress: OnProgress,
    cancelled: IsCancelled,
) -> int:
    """Encode the segments as one film and return its number of frames.

    `overlaps[i]` frames at the end of segment i and the start of segment i+1 show the same time and are cross-faded.
    In independent mode an overlap of 0 means that the two share their keyframe, which is written once; in chained
    mode it means that they share nothing. Raises `TaskValidationError` when the numbers do not fit one another,
    `EngineError` when a segment has fewer frames than its overlaps, `Cancelled` within one frame.
    """
    if not segments or len(overlaps) != len(segments) - 1 or any(o < 0 for o in overlaps):
        raise TaskValidationError(
            f"`overlaps` is {list(overlaps)}; {len(segments)} segments need {len(segments) - 1} of 0 or more",
            "overlaps",
        )
    shared = [max(o, 1) if mode == "independent" else o for o in overlaps]
    total = sum(count_packets(path) for path in segments) - sum(shared)
    frames = _joined(segments, overlaps, shared)
    return write_video(
        output, watched(frames, total, on_progress=on_progress, cancelled=cancelled), fps, lossless=False
    )


def crossfade_weights(n: int) -> list[float]:
    """How much of the later segment each of n overlapping frames shows: (1 - cos(pi t)) / 2, t = (i+1)/(n+1)."""
    return [(1 - cos(pi * (i + 1) / (n + 1))) / 2 for i in range(n)]


def _joined(segments: Sequence[Path], overlaps: Sequence[int], shared: Sequence[int]) -> Iterator[Frame]:
    held: deque[Frame] = deque()
    for index, path in enumerate(segments):
        before, held = held, deque()
        # A keyframe that is merely shared keeps the picture of the earlier segment.
        weights = crossfade_weights(overlaps[index - 1]) if index else []
        keep = shared[index] if index < len(shared) else 0
        count = 0
        for count, frame in enumerate(read_frames(path), start=1):
            if before:
                earlier = before.popleft()
                frame = _mix(earlier, frame, weights[count - 1]) if weights else earlier
            held.append(frame)
            if len(held) > keep:
                yield held.popleft()
        if before or len(held) < keep:
            need = max(keep, shared[index - 1] if index else 0)
            raise EngineError(f"segment {index} has {count} frames; its overlaps need {need}")
    yield from held


def _mix(earlier: Frame, later: Frame, weight: float) -> Frame:
    if earlier.shape != later.shape:
        raise EngineError(f"segments of the shapes {earlier.shape} and {later.shape} cannot be joined")
    mixed = earlier + (later.astype(np.float32) - earlier) * np.float32(weight)
    return np.rint(mixed).astype(np.uint8)
