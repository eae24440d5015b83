"""The timeline of a travel: figures from the design, and properties that hold for every plan."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import TaskValidationError
from tasks_lib.planning.timeline import plan_timeline, quantise_frames

Mode = Literal["independent", "chained"]


@pytest.mark.parametrize(
    ("mode", "total", "keyframes", "rendered"),
    [("chained", 243, [0, 80, 161, 242], [81, 89, 89]), ("independent", 227, [0, 73, 146, 226], [81, 81, 81])],
)
def test_timeline_is_the_designs_when_planned_for_its_example(
    mode: Mode, total: int, keyframes: list[int], rendered: list[int]
) -> None:
    timeline = plan_timeline(segment_frames=81, frame_overlap=[8, 8], mode=mode)
    assert (timeline.total_frames, timeline.keyframes) == (total, keyframes)
    assert [segment.frames for segment in timeline.segments] == rendered


def test_frames_are_never_above_what_was_asked_when_quantised() -> None:
    asked = [5, 8, 9, 16, 48, 49, 50, 80, 81]
    assert [quantise_frames(f, "f") for f in asked] == [5, 5, 9, 13, 45, 49, 49, 77, 81]


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Frames and overlaps that fit each other."""
    count = draw(st.integers(1, 12))
    frames = [draw(st.integers(5, 81)) for _ in range(count)]
    q = [4 * ((f - 1) // 4) + 1 for f in frames]
    overlaps = [draw(st.integers(0, min(a, b) - 1)) for a, b in pairwise(q)]
    mode = draw(st.sampled_from(["independent", "chained"]))
    return {"segment_frames": frames, "frame_overlap": overlaps, "mode": mode, "segments": count}


@given(plans())
def test_every_frame_has_its_place_when_a_plan_is_good(plan: dict[str, Any]) -> None:
    timeline = plan_timeline(**plan)
    segments = timeline.segments
    assert timeline.keyframes[0] == 0
    assert timeline.keyframes[-1] == timeline.total_frames - 1
    assert timeline.keyframes == sorted(set(timeline.keyframes))
    assert len(timeline.keyframes) == len(segments) + 1
    last = segments[-1]
    assert last.start + last.frames == timeline.total_frames
    for before, after in pairwise(segments):
        shared = before.start + before.frames - after.start
        independent = plan["mode"] == "independent"
        assert shared == (max(after.overlap_before, 1) if independent else after.overlap_before)
        assert after.overlap_before % 4 == 0
    if plan["mode"] == "chained":
        assert timeline.total_frames == sum(s.frames - s.overlap_before for s in segments)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"segment_frames": 4}, "segment_frames[0]"),
        ({"segment_frames": [81, 82]}, "segment_frames[1]"),
        ({"segment_frames": -1}, "segment_frames[0]"),
        ({"segment_frames": True}, "segment_frames[0]"),
        ({"segment_frames": [9.5, 9]}, "segment_frames[0]"),
        ({"segment_frames": [9, 9, 9], "segments": 2}, "segment_frames"),
        ({"segment_frames": [], "segments": 2}, "segment_frames"),
        ({"segment_frames": 9, "frame_overlap": [0, 0], "segments": 2}, "frame_overlap"),
        ({"segment_frames": [9, 81], "frame_overlap": 12}, "frame_overlap[0]"),
        ({"segment_frames": [9, 9], "frame_overlap": -1}, "frame_overlap[0]"),
        ({"segment_frames": 9, "mode": "sideways"}, "mode"),
    ],
)
def test_field_is_named_when_a_plan_does_not_fit(plan: dict[str, Any], field: str) -> None:
    with pytest.raises(TaskValidationError) as caught:
        plan_timeline(**plan)
    assert caught.value.field == field
    assert f"`{field}`" in str(caught.value)
