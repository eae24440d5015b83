"""Joining clips, in frames: the predecessor's worked examples (where it was right) and what must always hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import TaskValidationError
from tasks_lib.planning.joins import Join, plan_join, plan_join_clips, resampled


def film(before: int, after: int, join: Join) -> int:
    """Frames of the film of two clips: the bridge's contexts are frames of the clips."""
    return (before - join.cut_before) + join.gap + (after - join.cut_after)


@pytest.mark.parametrize(
    ("context", "gap", "places"), [(8, 53, (25, 43)), (4, 3, (5, 6)), (4, 2, None), (1, 9, (4, 7))]
)
def test_kept_pictures_divide_the_gap_in_three_when_it_has_room(
    context: int, gap: int, places: tuple[int, int] | None
) -> None:
    join = Join(context_before=context, context_after=context, gap=gap, cut_before=0, cut_after=0)
    assert join.bridging == places


@pytest.mark.parametrize(
    ("before", "after", "gap", "replace", "frames", "total"),
    [
        (81, 81, 53, True, 69, 162),
        (81, 81, 53, False, 69, 215),
        (81, 81, 50, True, 65, 162),
        (81, 81, 50, False, 65, 211),
        (81, 81, 16, True, 29, 162),
        (81, 81, 16, False, 29, 175),
        (49, 33, 53, True, 65, 82),
        (49, 33, 53, False, 69, 135),
        (60, 20, 53, True, 61, 80),
        (60, 20, 53, False, 69, 133),
        (30, 20, 53, False, 69, 103),
    ],
)
def test_lengths_are_the_worked_ones_when_clips_are_joined(
    before: int, after: int, gap: int, replace: bool, frames: int, total: int
) -> None:
    join = plan_join(before, after, context=8, gap=gap, replace=replace)
    assert (join.frames, film(before, after, join)) == (frames, total)


def test_join_is_refused_when_the_clips_are_shorter_than_the_gap() -> None:
    with pytest.raises(TaskValidationError, match="can give 48 frames") as refused:
        plan_join(30, 20, context=8, gap=53, replace=True)
    assert refused.value.field == "gap_frame_count"


@given(
    before=st.integers(0, 200),
    after=st.integers(0, 200),
    context=st.integers(1, 81),
    gap=st.integers(1, 161),
    replace=st.booleans(),
)
def test_joints_are_exact_when_they_can_be_made_at_all(
    before: int, after: int, context: int, gap: int, replace: bool
) -> None:
    try:
        join = plan_join(before, after, context=context, gap=gap, replace=replace)
    except TaskValidationError:
        assert min(before, after) < 4 or (replace and gap + 3 > before + after - 2)
        return
    assert join.frames % 4 == 1
    assert 1 <= join.context_before <= min(context, before - join.cut_before)
    assert 1 <= join.context_after <= min(context, after - join.cut_after)
    assert 1 <= join.gap <= gap + 3
    assert film(before, after, join) == before + after + (0 if replace else join.gap)


@given(frames=st.integers(1, 500), source=st.floats(5, 120), fps=st.floats(5, 120))
def test_resampling_keeps_order_and_duration_when_the_rate_changes(frames: int, source: float, fps: float) -> None:
    shown = resampled([i / source for i in range(frames + 1)], fps)
    assert shown == sorted(shown)
    assert 0 <= shown[0] <= shown[-1] < frames
    assert abs(len(shown) / fps - frames / source) <= 1 / fps


def test_all_bridges_come_before_the_film_when_clips_are_planned() -> None:
    details = {
        "clips": [{"url": f"https://example.com/{i}.mp4"} for i in range(3)],
        "fps": 16.0,
        "settings": {"prompt": "fog", "gap_frame_count": 53},
        "per_join_settings": [{"prompt": "rain"}, {}],
    }
    first, second, stitch = plan_join_clips({"orchestrator_details": details}, {"generation_id": "g"})
    assert [first.params["prompt"], second.params["prompt"]] == ["rain", "fog"]
    assert (first.params["before_is_shared"], first.params["after_is_shared"]) == (False, True)
    assert (second.params["before_is_shared"], second.params["after_is_shared"]) == (True, False)
    assert (first.after, stitch.after) == ((), ["join_000", "join_001"])
    assert stitch.placement == {
        "as": "variant",
        "generation_id": "g",
        "variant_type": "join_final_stitch",
        "primary": True,
    }
