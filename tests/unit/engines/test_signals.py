"""What a guide shows: motion, edges and depth, of pictures in which they are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tasks_lib.engines import signals
from tasks_lib.engines.base import UNGUIDED, Frame
from tasks_lib.errors import EngineError
from tasks_lib.media.clips import Form
from tasks_lib.media.video import write_video
from tasks_lib.planning.guides import Sight
from tests.scenes import photograph

SIDE = 128
FORM = Form(SIDE, SIDE, 16)
RIGHT, DOWN, LEFT, UP = (255, 0, 0), (255, 229, 0), (0, 208, 255), (88, 0, 255)


def framed(x: int, y: int) -> Frame:
    """A part of a photograph whose content stands x to the right and y down of where it is in the photograph."""
    return np.ascontiguousarray(photograph("coffee.png")[120 - y : 120 - y + SIDE, 160 - x : 160 - x + SIDE])


@pytest.mark.parametrize(
    ("move", "colour"),
    [((5, 0), RIGHT), ((0, 5), DOWN), ((-5, 0), LEFT), ((0, -5), UP), ((24, 0), RIGHT), ((0, -24), UP)],
)
def test_colour_is_the_directions_when_a_picture_moves(move: tuple[int, int], colour: tuple[int, ...]) -> None:
    picture = signals.flow(1.0)(framed(0, 0), framed(*move))
    middle = np.median(picture[32:-32, 32:-32], axis=(0, 1))
    # The wheel has 55 places and is gone round in 54: from just below red to red there is a step of 42 levels.
    assert np.abs(middle - colour).max() <= 48


@pytest.mark.parametrize(("strength", "saturation"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)])
def test_motion_is_scaled_when_a_strength_is_given(strength: float, saturation: float) -> None:
    picture = signals.flow(strength)(framed(0, 0), framed(6, 0))
    middle = np.median(picture[32:-32, 32:-32], axis=(0, 1))
    assert abs(middle[1] - 255 * (1 - saturation)) <= 16


def test_noise_is_not_taken_for_motion_when_nothing_moves() -> None:
    rng = np.random.default_rng(3)
    before, now = (
        np.asarray(np.clip(framed(0, 0) + rng.normal(0, 2, (SIDE, SIDE, 3)), 0, 255), np.uint8) for _ in range(2)
    )
    assert signals.flow(1.0)(before, now).mean() > 240
    assert (signals.flow(1.0)(now, now) == 255).all()


def test_slow_part_is_paler_when_another_moves_faster() -> None:
    motion = np.zeros((2, 2, 2), np.float32)
    motion[0, :, 0] = 1
    motion[1, :, 0] = 0.25
    fast, slow = signals.colour_wheel(motion)[:, 0]
    assert (fast.tolist(), slow.tolist()) == ([255, 0, 0], [255, 191, 191])


def test_edges_are_where_they_are_and_as_bright_as_asked() -> None:
    square = np.full((SIDE, SIDE, 3), 40, np.uint8)
    square[40:80, 40:80] = 200
    white, grey, none = (signals.edges(intensity)(square, square) for intensity in (1.0, 0.5, 0.0))
    assert white.max() == 255
    assert white[38:42, 60].max() == 255, "its upper side"
    assert white[50:70, 50:70].max() == 0
    assert (grey.max(), none.max()) == (128, 0)
    assert np.array_equal(grey > 0, white > 0)


def levels(folder: Path, count: int) -> Path:
    """A clip whose frame i is all of the level 10 i, and of another shape than it is asked in."""
    path = folder / "levels.mkv"
    frames = (np.full((SIDE, 2 * SIDE, 3), 10 * i, np.uint8) for i in range(count))
    write_video(path, frames, 30, lossless=True)
    return path


def test_guide_has_a_picture_for_every_frame_when_it_has_gaps_and_repeats(tmp_path: Path) -> None:
    shown = [Sight(0, i, (max(i - 2, 0), i)) for i in (3, 3, 5, 7)]
    plan = [None, *shown, None, None, Sight(1, 2, (1, 2))]
    files = dict.fromkeys((0, 1), levels(tmp_path, 9))
    pictures = list(signals.drawn(plan, files, FORM, signals.as_is, moving=False))
    assert {picture.shape for picture in pictures} == {(SIDE, SIDE, 3)}
    assert [int(picture.mean()) for picture in pictures] == [UNGUIDED, 30, 30, 50, 70, UNGUIDED, UNGUIDED, 20]

    seen: list[tuple[int, int]] = []

    def draw(before: Frame, now: Frame) -> Frame:
        seen.append((int(before.mean()), int(now.mean())))
        return now

    assert len(list(signals.drawn(plan, files, FORM, draw, moving=True))) == len(plan)
    assert seen == [(10, 30), (30, 50), (50, 70), (10, 20)], "each once, however often it is shown"


def test_two_frames_are_in_memory_when_a_guide_is_long(tmp_path: Path) -> None:
    alive: list[Any] = []
    most = 0

    def draw(before: Frame, now: Frame) -> Frame:
        nonlocal most
        import weakref

        alive.extend(weakref.ref(frame) for frame in (before, now))
        most = max(most, len({id(frame) for one in alive if (frame := one()) is not None}))
        return np.zeros_like(now)

    plan = [Sight(0, i, (max(i - 1, 0), max(i, 1))) for i in range(24)]
    for _ in signals.drawn(plan, {0: levels(tmp_path, 24)}, FORM, draw, moving=True):
        pass
    assert most <= 3


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_depth_is_read_by_its_model_when_one_is_there(tmp_path: Path, kind: str) -> None:
    from tasks_lib.engines.diffusers.depth import depth
    from tests.unit.engines import tiny

    folder = str(tiny.build_depth(tmp_path / "depth", kind))
    frame = framed(0, 0)
    near, paler, flat = (depth(folder, contrast)(frame, frame) for contrast in (1.0, 0.5, 0.0))
    assert near.shape == frame.shape
    assert (near.min(), near.max()) == (0, 255), "spread over all of the grey"
    assert (near == near[..., :1]).all(), "grey"
    assert abs(int(paler.max()) - int(paler.min()) - 127) <= 2
    assert np.ptp(flat) == 0
    assert np.array_equal(near, depth(folder, 1.0)(frame, frame))
    assert not np.array_equal(near, depth(folder, 1.0)(frame, framed(20, 0)))
    other = str(tiny.build_depth(tmp_path / "other", "metric" if kind == "relative" else "relative"))
    reverse = depth(other, 1.0)(frame, frame)
    assert reverse[near > 240].mean() < reverse[near < 15].mean(), "of such weights, one kind's near is the other's far"


def test_depth_is_refused_when_the_folder_holds_no_depth_model(tmp_path: Path) -> None:
    from tasks_lib.engines.diffusers.depth import depth
    from tests.unit.engines import tiny

    with pytest.raises(EngineError, match="is no Depth Anything or DPT model"):
        depth(str(tmp_path), 1.0)
    with pytest.raises(EngineError, match="it is a vitpose"):
        depth(str(tiny.build_pose(tmp_path / "pose")), 1.0)


def test_size_is_the_segments_when_a_guide_has_another_shape(tmp_path: Path) -> None:
    wide = tmp_path / "wide.mkv"
    ramp = np.asarray(cv2.resize(np.arange(256, dtype=np.uint8)[None], (256, 64)), np.uint8)
    write_video(wide, iter([np.dstack([ramp] * 3)] * 2), 16, lossless=True)
    (picture,) = signals.drawn([Sight(0, 1, (0, 1))], {0: wide}, Form(64, 64, 16), signals.as_is, moving=False)
    assert abs(int(picture[0, 0, 0]) - 96) <= 2, "its middle is cut out"
