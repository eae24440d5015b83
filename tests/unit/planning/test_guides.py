"""Which frame of a guide belongs to a frame of the film."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.structure import GuideVideo
from tasks_lib.planning.guides import Sight, Source, in_view, plan_guide
from tasks_lib.planning.timeline import plan_timeline

Mode = Literal["independent", "chained"]


def video(**given: Any) -> GuideVideo:
    return GuideVideo.parse({"path": "https://example.com/guide.mp4", **given})


def places(*videos: GuideVideo, source: Source, film: int, start: int = 0, frames: int | None = None) -> list[Any]:
    """The frame that each frame of the window shows, or None."""
    plan = plan_guide(
        videos,
        dict.fromkeys(range(len(videos)), source),
        film=film,
        start=start,
        frames=film - start if frames is None else frames,
        fps=16,
    )
    return [sight and sight.frame for sight in plan]


def test_guide_reaches_from_end_to_end_when_it_is_adjusted() -> None:
    assert places(video(), source=Source(5, 30), film=9) == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert places(video(), source=Source(121, 30), film=81)[::20] == [0, 30, 60, 90, 120]
    assert places(video(), source=Source(1, 30), film=3) == [0, 0, 0]
    assert places(video(), source=Source(7, 30), film=1) == [0]


def test_guide_keeps_its_speed_and_is_cut_when_it_is_clipped() -> None:
    clip = video(treatment="clip")
    assert places(clip, source=Source(100, 16), film=5) == [0, 1, 2, 3, 4]
    assert places(clip, source=Source(100, 32), film=5) == [0, 2, 4, 6, 8]
    assert places(clip, source=Source(100, 8), film=5) == [0, 0, 1, 1, 2]
    assert places(clip, source=Source(6, 32), film=5) == [0, 2, 4, None, None], "past its end nothing guides"
    assert places(clip, source=Source(1, 60), film=2) == [0, None]


def test_ranges_are_kept_when_several_guides_share_a_film() -> None:
    first = video(start_frame=1, end_frame=4, source_start_frame=10, source_end_frame=13)
    second = video(start_frame=6, end_frame=99, treatment="clip", source_start_frame=20)
    assert places(first, second, source=Source(50, 16), film=9) == [None, 10, 11, 12, None, None, 20, 21, 22]
    assert in_view([first, second], film=9, start=4, frames=2) == []
    assert in_view([first, second], film=9, start=3, frames=4) == [0, 1]
    late = video(start_frame=9)
    assert in_view([late], film=9, start=0, frames=9) == []


def test_motion_goes_on_when_a_stretched_guide_stands_still() -> None:
    plan = plan_guide([video()], {0: Source(3, 30)}, film=6, start=0, frames=6, fps=16)
    assert plan == [
        Sight(0, frame, moved)
        for frame, moved in ((0, (0, 1)), (0, (0, 1)), (1, (0, 1)), (1, (0, 1)), (2, (1, 2)), (2, (1, 2)))
    ]
    still = plan_guide([video()], {0: Source(1, 30)}, film=2, start=0, frames=2, fps=16)
    assert still == [Sight(0, 0, (0, 0))] * 2


def test_field_is_named_when_a_guide_has_ended_before_it_begins() -> None:
    with pytest.raises(TaskValidationError, match="has 5 frames and is to begin at its frame 5") as refused:
        places(video(), video(start_frame=4, source_start_frame=5), source=Source(5, 16), film=9)
    assert refused.value.field == "structure_guidance.videos[1].source_start_frame"


@given(
    frames=st.lists(st.integers(5, 81), min_size=1, max_size=5),
    overlap=st.integers(0, 12),
    mode=st.sampled_from(["independent", "chained"]),
    treatment=st.sampled_from(["adjust", "clip"]),
    source=st.builds(Source, st.integers(1, 400), st.sampled_from([8.0, 16.0, 24.0, 29.97, 60.0])),
    first=st.integers(0, 30),
    last=st.integers(31, 500) | st.none(),
)
def test_film_is_guided_as_a_whole_when_it_is_made_in_segments(
    frames: list[int],
    overlap: int,
    mode: Mode,
    treatment: str,
    source: Source,
    first: int,
    last: int | None,
) -> None:
    """Every segment sees its own part of one plan: what two of them share, they see alike."""
    timeline = plan_timeline(segment_frames=frames, frame_overlap=min(overlap, 4 * ((min(frames) - 2) // 4)), mode=mode)
    film = timeline.total_frames
    one = video(start_frame=first, end_frame=last, treatment=treatment)
    files = {0: source}

    def part(start: int, count: int) -> list[Sight | None]:
        return plan_guide([one], files, film=film, start=start, frames=count, fps=16)

    whole = part(0, film)
    assert len(whole) == film
    for segment in timeline.segments:
        own = part(segment.start, segment.frames)
        assert len(own) == segment.frames
        assert own == whole[segment.start : segment.start + segment.frames]
    guided = [sight for sight in whole if sight]
    assert all(sight.frame < source.frames and sight.moved[0] <= sight.moved[1] for sight in guided)
    assert all(one.moved <= other.moved and one.frame <= other.frame for one, other in pairwise(guided))
    assert [sight is not None for sight in whole[:first]] == [False] * min(first, film)
    if treatment == "adjust" and film - first > 1 and last is None:
        assert (guided[0].frame, guided[-1].frame) == (0, source.frames - 1)
