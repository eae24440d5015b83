"""Clips brought to one form, and the correction of colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks_lib.engines.base import Frame
from tasks_lib.media.clips import Form, open_clip
from tasks_lib.media.colour import adjusted
from tasks_lib.media.video import write_video


def pictures(count: int, height: int = 32, width: int = 48) -> list[Frame]:
    """Greys that rise by eight from frame to frame."""
    return [np.full((height, width, 3), 8 * i, np.uint8) for i in range(count)]


def test_range_of_a_clip_is_exact_when_it_is_read_at_another_rate_and_size(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    write_video(path, iter(pictures(20)), 20, lossless=True)
    same = open_clip(path, Form.of(path, None, None))
    assert [int(frame[0, 0, 0]) for frame in same.frames(3, 6)] == [24, 32, 40]
    assert list(same.frames(5, 5)) == []

    half = open_clip(path, Form(16, 32, 10))
    assert half.count == 10
    frames = list(half.frames(0, 10))
    assert {frame.shape for frame in frames} == {(32, 16, 3)}
    assert [int(frame[0, 0, 0]) for frame in frames] == [8 * (2 * i + 1) for i in range(10)]

    double = open_clip(path, Form(48, 32, 40))
    assert [int(frame[0, 0, 0]) for frame in double.frames(10, 14)] == [40, 40, 48, 48]


def test_sizes_are_even_when_the_first_clip_decides(tmp_path: Path) -> None:
    path = tmp_path / "odd.mkv"
    write_video(path, iter(pictures(2, 33, 47)), 16, lossless=True)
    assert Form.of(path, None, 24) == Form(46, 32, 24)


def test_colours_change_only_as_asked_when_frames_are_adjusted() -> None:
    frame = np.array([[[200, 100, 50]]], np.uint8)
    (grey,) = adjusted(iter([frame]), 0, 0)
    assert len(set(grey[0, 0].tolist())) == 1
    (brighter,) = adjusted(iter([frame]), 1, 0.5)
    assert brighter[0, 0].tolist() == [255, 228, 178]
    (same,) = adjusted(iter([frame]), 1, 0)
    assert same is frame
