"""A cast that a model puts on a clip is measured where it drew known frames, and taken off."""

from __future__ import annotations

import numpy as np
import pytest

from tasks_lib.engines.base import Frame
from tasks_lib.engines.colour_match import matched
from tests.scenes import affine, photograph

COUNT = 13


def walk() -> list[Frame]:
    """A camera that pans over a photograph."""
    at = affine(photograph("coffee.png"), 2, 96)
    return [at(i / (COUNT - 1)) for i in range(COUNT)]


def cast(frame: Frame, share: float = 1.0) -> Frame:
    """Darker, redder and with less contrast, as much of it as `share` says."""
    bad = frame * np.array([0.9, 0.75, 0.7]) + [25, 5, 0]
    return np.asarray(np.clip(np.rint(frame + share * (bad - frame)), 0, 255), np.uint8)


def off(frames: list[Frame], true: list[Frame]) -> list[float]:
    """By how many levels the mean of the worst channel of each frame is off."""
    return [float(np.abs(one.mean((0, 1)) - other.mean((0, 1))).max()) for one, other in zip(frames, true, strict=True)]


def test_segment_has_the_colours_of_the_one_before_when_its_model_has_a_cast() -> None:
    true = walk()
    drawn = [cast(frame) for frame in true]
    assert min(off(drawn, true)) > 15
    made = matched(drawn, {i: true[i] for i in range(4)})
    assert max(off(made, true)) < 3
    before, after = (
        max(float(np.abs(a.astype(int) - b).mean()) for a, b in zip(frames, true, strict=True))
        for frames in (drawn, made)
    )
    assert after < before / 2, "not the mean alone: the pixels themselves"


def test_correction_goes_over_from_start_to_end_when_the_cast_grows() -> None:
    true = walk()
    drawn = [cast(frame, i / (COUNT - 1)) for i, frame in enumerate(true)]
    made = matched(drawn, {0: true[0], COUNT - 1: true[-1]})
    assert max(off(drawn, true)) > 15
    assert max(off(made, true)) < 3


def test_nothing_changes_when_the_model_keeps_colours() -> None:
    true = walk()
    made = matched(true, {0: true[0], 1: true[1], COUNT - 1: true[-1]})
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(made, true, strict=True)) <= 1
    assert matched(true, {}) == true


@pytest.mark.parametrize("level", [30, 200])
def test_noise_is_not_blown_up_when_a_frame_is_flat(level: int) -> None:
    rng = np.random.default_rng(1)
    drawn = [np.full((32, 32, 3), 100, np.uint8)] * 2
    known = np.asarray(rng.integers(0, 255, (32, 32, 3)), np.uint8)
    first, second = matched(drawn, {0: known})
    assert np.ptp(first, axis=(0, 1)).max() == 0
    assert np.array_equal(first, second)
    flat = np.full((32, 32, 3), level, np.uint8)
    (shifted,) = matched(drawn[:1], {0: flat})
    assert np.abs(shifted.astype(int) - level).max() <= 1
