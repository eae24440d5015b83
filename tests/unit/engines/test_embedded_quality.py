"""Held-out middle frames: what lies between two pictures is known, and a cross-fade must be beaten at finding it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.synthesis import Between
from tasks_lib.media.quality import psnr
from tests.scenes import CLIPS, PHOTOGRAPHS, Scene, affine, clip, homography, layers, non_rigid, photograph, triplets

SIDE = 384


def gain(start: Frame, middle: Frame, end: Frame) -> float:
    """By how many dB the engine's middle frame beats the cross-fade of the same anchors."""
    crossfade = ((start.astype(np.uint16) + end + 1) // 2).astype(np.uint8)
    return psnr(Between(start, end).at(0.5), middle) - psnr(crossfade, middle)


@pytest.mark.parametrize(("motion", "least"), [(affine, 8), (homography, 8), (non_rigid, 8), (layers, 5)])
def test_middle_frame_beats_crossfade_by_far_when_motion_of_a_photograph_is_known(
    motion: Callable[[Frame, int, int], Scene], least: float
) -> None:
    gains = []
    for seed, name in enumerate(PHOTOGRAPHS):
        at = motion(photograph(name), seed, SIDE)
        gains.append(gain(at(0), at(0.5), at(1)))
    assert np.mean(gains) >= least, gains


def test_middle_frame_beats_crossfade_by_3_5_db_when_frames_come_from_real_clips() -> None:
    clips = [clip(name) for name in CLIPS]
    for gap in (2, 4):
        gains = [gain(*triplet) for frames in clips for triplet in triplets(frames, gap)]
        assert np.mean(gains) >= 3.5, (gap, gains)
