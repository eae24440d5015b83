"""Joining clips: which frames of two clips are kept, and how many are made between them.

A bridge has `frames` = context_before + gap + context_after frames, 4n+1 as video models want them; its context frames
repeat frames of the clips, so that it can be cross-faded with both. With `cut` frames taken from the clips:

mode      taken from the clips           the film of two clips A and B has
replace   gap frames, half from each     A + B frames
insert    none                           A + B + gap frames
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks_lib.errors import TaskValidationError
from tasks_lib.planning.children import Child

STITCH = "stitch"

MIN_BRIDGING_GAP = 3


class Join(BaseModel):
    """One joint, in frames. The bridge stands for the last `cut_before` and first `cut_after` frames of its clips."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_before: int
    context_after: int
    gap: int
    cut_before: int
    cut_after: int

    @property
    def frames(self) -> int:
        """How many frames the bridge has."""
        return self.context_before + self.gap + self.context_after

    @property
    def bridging(self) -> tuple[int, int] | None:
        """The frames of the bridge at a third and two thirds of its gap; None where that is too short for it."""
        if self.gap < MIN_BRIDGING_GAP:
            return None
        return self.context_before + self.gap // 3, self.context_before + 2 * self.gap // 3


def plan_join(before: int, after: int, *, context: int, gap: int, replace: bool) -> Join:
    """Lay out the joint of two clips that may give `before` and `after` frames to it.

    The gap is brought down so that the bridge has 4n+1 frames; a gap too small for that costs context, or grows.
    Raises `TaskValidationError` with the field when the clips are too short.
    """
    if before < 1 or after < 1:
        raise TaskValidationError(
            f"a clip has {min(before, after)} frames for this join; at least 1 is needed", "clips"
        )
    cuts = _cuts(before, after, gap) if replace else (0, 0)
    contexts = [min(context, before - cuts[0]), min(context, after - cuts[1])]
    excess = (sum(contexts) + gap - 1) % 4
    if gap > excess:
        gap -= excess
    elif sum(contexts) - excess >= 2:
        for _ in range(excess):
            contexts[contexts.index(max(contexts))] -= 1
    else:
        gap += 4 - excess
    # A smaller gap takes less from both clips, so the contexts still fit; only the last branch can be too much.
    cuts = _cuts(before, after, gap) if replace else (0, 0)
    if cuts[0] + contexts[0] > before or cuts[1] + contexts[1] > after:
        raise TaskValidationError(f"clips of {before} and {after} frames are too short for this join", "clips")
    return Join(context_before=contexts[0], context_after=contexts[1], gap=gap, cut_before=cuts[0], cut_after=cuts[1])


def _cuts(before: int, after: int, gap: int) -> tuple[int, int]:
    """Half of the gap from each clip, or what a short one can give and the rest from the other; one frame stays."""
    if gap > before + after - 2:
        raise TaskValidationError(
            f"`gap_frame_count` is {gap}; the clips can give {before + after - 2} frames to this join",
            "gap_frame_count",
        )
    cut_before = max(min(gap // 2, before - 1), gap - (after - 1))
    return cut_before, gap - cut_before


def resampled(times: Sequence[float], fps: float) -> list[int]:
    """For each frame of a clip brought to `fps`, the frame of the source that it shows: the one at its middle.

    `times` says in seconds when each frame of the source begins and, last, when the clip ends; they need not be even.
    """
    begin, end = times[0], times[-1]
    count = max(1, round((end - begin) * fps))
    # A frame that begins exactly at the middle counts as begun, whatever the last bit of its time.
    middles = (begin + (i + 0.5) / fps + 1e-6 for i in range(count))
    return [max(0, bisect_right(times, middle, hi=len(times) - 1) - 1) for middle in middles]


def kept_frames(counts: Sequence[int], joins: Sequence[Join]) -> list[tuple[int, int]]:
    """Of clips of so many frames, those that a film shows, from and to (exclusive). A join for each clip is a loop."""
    loop = len(joins) == len(counts)
    return [
        (
            joins[i - 1].cut_after if i or loop else 0,
            count - (joins[i].cut_before if i < len(joins) else 0),
        )
        for i, count in enumerate(counts)
    ]


class Voice(BaseModel):
    """Where a clip is heard in a film, in frames: from frame `skip` of its own on, from `start` for `frames`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip: int
    skip: int
    start: int
    frames: int
    fade_in: int = 0
    fade_out: int = 0


def voices(counts: Sequence[int], joins: Sequence[Join]) -> list[Voice]:
    """The sound of each clip, in step with its frames and whole: what a bridge replaced is still heard, under it.

    So in replace mode one clip's sound ends under the bridge where the next one's begins; in insert mode the made
    frames between them are silent. A sound is faded where the bridge is seen. In a loop the beginning of the first
    clip is heard under the last bridge.
    """
    kept = kept_frames(counts, joins)
    found = []
    shown_from = 0
    for i, count in enumerate(counts):
        first, stop = kept[i]
        start = shown_from - first
        fade_in = first + joins[i - 1].context_after if i else 0
        fade_out = count - stop + joins[i].context_before if i < len(joins) else 0
        skip = max(0, -start)
        found.append(
            Voice(clip=i, skip=skip, start=start + skip, frames=count - skip, fade_in=fade_in, fade_out=fade_out)
        )
        shown_from += stop - first + (joins[i].gap if i < len(joins) else 0)
    if begun := kept[0][0]:
        found.append(Voice(clip=0, skip=0, start=shown_from - begun, frames=begun, fade_in=begun))
    return found


def join_key(index: int) -> str:
    """The child key of a join, and its place in every list."""
    return f"join_{index:03d}"


def plan_join_clips(params: dict[str, Any], placement: dict[str, Any] | None) -> list[Child]:
    """From an orchestrator's stored params to its children: all bridges at once, then the film.

    In a loop the last bridge leads back to the first clip.
    """
    details = params["orchestrator_details"]
    clips = [clip["url"] for clip in details["clips"]]
    generation_id = (placement or {}).get("generation_id")
    form = {"first_clip": clips[0], "resolution": details.get("resolution"), "fps": details.get("fps")}
    loop = details.get("loop", False)
    settings = [{**details["settings"], **own} for own in details["per_join_settings"]]

    children = [
        Child(
            key=join_key(i),
            task_type="join_clips_segment",
            params={
                **form,
                **settings[i],
                "join_index": i,
                "clip_before": clips[i],
                "clip_after": clips[(i + 1) % len(clips)],
                "before_is_shared": loop or i > 0,
                "after_is_shared": loop or i + 2 < len(clips),
            },
            placement={
                "as": "child",
                "parent_generation_id": generation_id,
                "child_order": i,
                "type": "video",
                "variant_type": "join_clips_segment",
                "primary": False,
            }
            if generation_id
            else None,
            model=settings[i].get("model_name"),
            sources={
                "first_clip": ["clips[0]"],
                "clip_before": [f"clips[{i}]"],
                "clip_after": [f"clips[{(i + 1) % len(clips)}]"],
                **{name: [f"per_join_settings[{i}].{name}"] for name in details["per_join_settings"][i]},
            },
        )
        for i in range(len(clips) if loop else len(clips) - 1)
    ]
    film = Child(
        key=STITCH,
        task_type="join_final_stitch",
        params={**form, "clips": clips, "loop": loop, "audio_url": details.get("audio_url")},
        after=[child.key for child in children],
        sources={"first_clip": ["clips[0]"]},
        placement={
            "as": "variant",
            "generation_id": generation_id,
            "variant_type": "join_final_stitch",
            "primary": True,
        }
        if generation_id
        else None,
    )
    return [*children, film]
