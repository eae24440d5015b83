"""Which frame of which guide belongs to a frame of the film. Everything is counted on the film.

A segment is a window of the film, so that a guide goes on where the segment before left it, and frames that two
segments share see the same guide. Guide frames are counted in their own file:

treatment  film frame a + i of the L from a to b shows, of the S used frames from s on
adjust     s + round(i (S - 1) / (L - 1)): its first frame at first, its last at last
clip       s + floor(i r / fps), with its own rate r: what is on screen then; past its end nothing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.structure import GuideVideo


@dataclass(frozen=True)
class Source:
    """The file of a guide: how many frames it has, and how many of them are a second."""

    frames: int
    fps: float


@dataclass(frozen=True)
class Sight:
    """What one frame is guided by: a frame of a video, and the two frames of it whose difference is its motion.

    The latter are the frame itself and the last different one before it: where a guide is stretched and stands still,
    its motion goes on. At its start they are its first two.
    """

    video: int
    frame: int
    moved: tuple[int, int]


def in_view(videos: Sequence[GuideVideo], *, film: int, start: int, frames: int) -> list[int]:
    """Which videos guide a window of `frames` frames from `start` on, of a film of `film` frames."""
    return [i for i, video in enumerate(videos) if video.start_frame < start + frames and start < _end(video, film)]


def plan_guide(
    videos: Sequence[GuideVideo], sources: Mapping[int, Source], *, film: int, start: int, frames: int, fps: float
) -> list[Sight | None]:
    """For each frame of a window of the film, what guides it; `sources` has the files of those that are `in_view`.

    Raises `TaskValidationError` with the field for a video that has ended before its `source_start_frame`.
    """
    shown: dict[int, Sight] = {}
    for i in in_view(videos, film=film, start=start, frames=frames):
        video = videos[i]
        places = _places(video, sources[i], _end(video, film) - video.start_frame, fps, i)
        distinct = sorted(set(places))
        before = {later: (earlier, later) for earlier, later in pairwise(distinct)}
        first = (distinct[0], distinct[min(1, len(distinct) - 1)])
        shown |= {video.start_frame + k: Sight(i, p, before.get(p, first)) for k, p in enumerate(places)}
    return [shown.get(start + k) for k in range(frames)]


def _end(video: GuideVideo, film: int) -> int:
    return film if video.end_frame is None else min(video.end_frame, film)


def _places(video: GuideVideo, source: Source, length: int, fps: float, index: int) -> list[int]:
    """The frames of the file that `length` frames of the film show, never falling; fewer where it ends before."""
    first = video.source_start_frame
    used = min(source.frames, video.source_end_frame or source.frames) - first
    if used < 1:
        raise TaskValidationError(
            f"the guide has {source.frames} frames and is to begin at its frame {first}",
            f"structure_guidance.videos[{index}].source_start_frame",
        )
    if video.treatment == "adjust":
        step = (used - 1) / max(length - 1, 1)
        return [first + floor(i * step + 0.5) for i in range(length)]
    rate = 1.0 if abs(source.fps - fps) < 0.01 else source.fps / fps
    places = (floor(i * rate + 1e-6) for i in range(length))
    return [first + place for place in places if place < used]
