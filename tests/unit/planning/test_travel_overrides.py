"""What a travel says about single segments reaches exactly those."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasks_lib.errors import TaskValidationError
from tasks_lib.planning.travel import plan_travel
from tasks_lib.types.base import Preparation
from tasks_lib.types.travel_orchestrator import TravelParams, prepare
from tasks_lib.types.travel_segment import TravelSegmentParams

REQUEST: dict[str, Any] = {
    "image_urls": [f"https://example.com/{i}.jpg" for i in range(4)],
    "base_prompts": [""],
    "segment_frames": 9,
    "loras": [{"path": "all"}],
    "amount_of_motion": 0.5,
}


def segments(**given: Any) -> list[TravelSegmentParams]:
    """The segments of a travel, as their worker reads them."""
    prepared = prepare(TravelParams.parse({**REQUEST, **given}), Preparation(uuid4(), lambda _: "64x64"))
    children = plan_travel(prepared.params, prepared.placement)
    return [TravelSegmentParams.parse(child.params) for child in children[:-1]]


def test_segment_has_its_own_settings_when_a_pair_overrides_them() -> None:
    first, second, third = segments(
        pair_loras=[None, [], [{"path": "own", "strength": 0.5}]],
        pair_motion_settings=[{"amount_of_motion": 0.0}, None, {"structure_motion_strength": 0.3}],
    )
    assert [[lora.path for lora in segment.loras] for segment in (first, second, third)] == [["all"], [], ["own"]]
    assert [segment.amount_of_motion for segment in (first, second, third)] == [0.0, 0.5, 0.5]
    assert third.structure_video_motion_strength == 0.3


def test_segments_know_their_place_in_the_film_when_they_overlap() -> None:
    def places(**given: Any) -> list[tuple[int, int, int | None]]:
        return [(s.film_start, s.frames, s.film_frames) for s in segments(**given)]

    assert places(frame_overlap=4) == [(0, 9, 19), (5, 9, 19), (10, 9, 19)]
    assert places(frame_overlap=4, independent_segments=False) == [(0, 9, 27), (5, 13, 27), (14, 13, 27)]


def test_guide_is_refused_when_the_film_ends_before_it_begins() -> None:
    videos = [{"path": "https://example.com/guide.mp4", "start_frame": start} for start in (24, 25)]
    assert segments(structure_guidance={"target": "vace", "videos": videos[:1]})
    with pytest.raises(TaskValidationError, match="the film has 25 frames") as refused:
        segments(structure_guidance={"target": "vace", "videos": videos[1:]})
    assert refused.value.field == "structure_guidance.videos[0].start_frame"


def test_guide_is_changed_for_one_segment_when_its_pair_says_so() -> None:
    guidance = {"target": "uni3c", "videos": [{"path": "https://example.com/guide.mp4"}], "step_window": [0.2, 0.9]}
    first, second, _ = segments(
        structure_guidance=guidance,
        pair_motion_settings=[
            {"uni3c_end_percent": 0.1, "structure_treatment": "clip", "structure_motion_strength": 0.0},
            None,
            None,
        ],
    )
    assert first.structure_guidance is not None
    assert second.structure_guidance is not None
    assert (first.structure_guidance.step_window, second.structure_guidance.step_window) == ([0.1, 0.1], [0.2, 0.9])
    assert first.structure_guidance.videos[0].treatment == "clip"
    assert (first.structure_guidance.strength, second.structure_guidance.strength) == (0.0, 1.0)
