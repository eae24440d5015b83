"""Where every frame of a travel stands: computed once, stored on the orchestrator's row, read by everybody else.

A travel through images 0..N has N segments. Segment i goes from image i to image i+1.

mode         a segment renders                       total frames        keyframe k stands at
independent  q_i, both images included               Σq - Σmax(o, 1)     Σ_{j<k} (q_j - max(o_j, 1)), last: total-1
chained      q_0, then q_i + o_{i-1} of which the    Σq                  0, then Σ_{j<k} q_j - 1
             first o_{i-1} repeat the tail before

with q = 4·⌊(f - 1) / 4⌋ + 1 for the f frames asked for, and overlaps o brought down to a multiple of 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks_lib.errors import TaskValidationError

Mode = Literal["independent", "chained"]

MIN_SEGMENT_FRAMES = 5
MAX_SEGMENT_FRAMES = 81


class Segment(BaseModel):
    """One rendered piece. `start` is a frame number of the final film; `frames` counts what is rendered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    start: int
    frames: int
    overlap_before: int


class Timeline(BaseModel):
    """A whole travel; `keyframes` are frame numbers of the final film, one for each image that is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fps: int
    total_frames: int
    keyframes: list[int]
    segments: list[Segment]


def plan_timeline(
    *,
    segment_frames: int | Sequence[int],
    frame_overlap: int | Sequence[int] = 0,
    mode: Mode = "independent",
    fps: int = 16,
    segments: int | None = None,
    min_frames: int = MIN_SEGMENT_FRAMES,
    max_frames: int = MAX_SEGMENT_FRAMES,
) -> Timeline:
    """Lay out a travel of `segments` segments (default: as many as the longer list says).

    A single number, or a list of one, counts for every segment or joint; any other length must be exact.
    Raises `TaskValidationError` with the field when a number or a length does not fit.
    """
    if mode not in ("independent", "chained"):
        raise TaskValidationError(f"`mode` must be independent or chained, not {mode!r}", "mode")
    if segments is None:
        overlaps_given = 1 if isinstance(frame_overlap, int) else len(frame_overlap)
        frames_given = 1 if isinstance(segment_frames, int) else len(segment_frames)
        segments = frames_given if frames_given > 1 or overlaps_given < 2 else overlaps_given + 1
    if segments < 1:
        raise TaskValidationError("a travel needs at least one segment", "segment_frames")

    asked = _expand(segment_frames, segments, "segment_frames")
    q = [quantise_frames(f, f"segment_frames[{i}]", min_frames, max_frames) for i, f in enumerate(asked)]
    overlaps = _expand(frame_overlap, segments - 1, "frame_overlap")
    o = [_quantise_overlap(v, f"frame_overlap[{i}]", q[i], q[i + 1]) for i, v in enumerate(overlaps)]

    if mode == "independent":
        steps = [frames - max(overlap, 1) for frames, overlap in zip(q, o, strict=False)]
        starts = [0, *accumulate(steps)]
        rendered = q
        total = sum(q) - sum(max(overlap, 1) for overlap in o)
        keyframes = [*starts, total - 1]
    else:
        ends = list(accumulate(q))
        starts = [0, *(end - overlap for end, overlap in zip(ends, o, strict=False))]
        rendered = [q[0], *(frames + overlap for frames, overlap in zip(q[1:], o, strict=True))]
        total = sum(q)
        keyframes = [0, *(end - 1 for end in ends)]
    return Timeline(
        fps=fps,
        total_frames=total,
        keyframes=keyframes,
        segments=[
            Segment(index=i, start=starts[i], frames=rendered[i], overlap_before=o[i - 1] if i else 0)
            for i in range(segments)
        ],
    )


def quantise_frames(
    frames: int, field: str, min_frames: int = MIN_SEGMENT_FRAMES, max_frames: int = MAX_SEGMENT_FRAMES
) -> int:
    """The largest 4n+1 that is not above `frames`; video models take no other lengths."""
    quantised = 4 * ((_whole(frames, field) - 1) // 4) + 1
    if not (min_frames <= quantised and frames <= max_frames):
        raise TaskValidationError(f"`{field}` must be from {min_frames} to {max_frames} frames, not {frames}", field)
    return quantised


def _quantise_overlap(overlap: int, field: str, before: int, after: int) -> int:
    quantised = 4 * (_whole(overlap, field) // 4)
    if overlap < 0:
        raise TaskValidationError(f"`{field}` must not be negative, and is {overlap}", field)
    if quantised >= min(before, after):
        raise TaskValidationError(
            f"`{field}` is {overlap} and must stay below both segments that it joins ({before} and {after} frames)",
            field,
        )
    return quantised


def _expand(values: int | Sequence[int], count: int, field: str) -> list[int]:
    listed = [values] if isinstance(values, int) else list(values)
    if len(listed) == 1:
        return listed * count
    if len(listed) != count:
        raise TaskValidationError(f"`{field}` has {len(listed)} entries; one or exactly {count} are needed", field)
    return listed


def _whole(value: object, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TaskValidationError(f"`{field}` must be a whole number, not {value!r}", field)
    return value
