"""The motion between two images, both ways, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import atan2, cos, sin

import cv2
import numpy as np

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.flow import (
    Floats,
    Grey,
    dense_flow,
    grid,
    inside,
    move,
    sample,
)

_TOLERANCE = 0.01  # of the long side: how far a pixel may miss its start after going there and back
_NOISE = 4.0  # grey levels squared: contrast below this is noise and correlates with nothing
_CONTRAST = 50.0  # grey levels squared: at this a pixel counts half
_WINDOW = 4.0  # sigma in pixels
_DEPTH_CHANGE = (0.2, 5.0)
_ENOUGH_OVERLAP = 0.3  # of the frame: less in common lowers the confidence


@dataclass(frozen=True)
class Motion:
    """Displacements a to b (`forward`) and b to a (`backward`), height x width x 2, and what the camera did."""

    forward: Floats
    backward: Floats
    camera: Floats | None
    """The homography a to b, or None where it tells nothing."""
    confidence: float

    def between(self, start: Floats, end: Floats, t: float) -> Floats:
        """Where points that go from `start` to `end` are at time t.

        They are seen by a camera that itself goes straight and turns steadily past a plane. Without the turn, a rotated
        picture would shrink on the way; without the depths, what comes near would do so too early.
        """
        if self.camera is None:
            return start + (end - start) * np.float32(t)
        middle, turn, depth = self._path
        ends = np.clip(start @ depth[:2] + depth[2], *_DEPTH_CHANGE)[..., None] * np.float32(t)
        starts = np.float32(1 - t)
        upright = (end - middle) @ _rotation(-turn)
        here = ((start - middle) * starts + upright * ends) / (starts + ends)
        return np.asarray(middle + here @ _rotation(turn * t), np.float32)

    def resized(self, height: int, width: int) -> Motion:
        """The same motion of the same images in another size."""
        fx, fy = width / self.forward.shape[1], height / self.forward.shape[0]
        forward, backward = (
            cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) * np.array([fx, fy], np.float32)
            for flow in (self.forward, self.backward)
        )
        # Pixel centres: (x + 1/2) scales, not x.
        scaling = np.array([[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]])
        camera = None if self.camera is None else scaling @ self.camera @ np.linalg.inv(scaling)
        return replace(self, forward=forward, backward=backward, camera=camera)

    @cached_property
    def _path(self) -> tuple[Floats, float, Floats]:
        """The middle of the frame, by how much the camera turns there, and how the depth of each point changes.

        The last is a row (a, b, c): what stands at (x, y) and depth 1 at first is at depth ax + by + c at last. A
        homography knows depths up to a factor, which for a camera that moves makes its middle singular value 1
        (Malis and Vargas 2007), in units of a focal length that is taken to be the long side of the frame.
        """
        assert self.camera is not None
        height, width = self.forward.shape[:2]
        middle = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
        arm = np.float32(min(height, width) / 4)
        cross = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32) * arm
        right, left, below, above = move(self.camera, middle + cross)
        x, y = (right - left), (below - above)
        side = max(height, width)
        units = np.array([[1 / side, 0, -middle[0] / side], [0, 1 / side, -middle[1] / side], [0, 0, 1]])
        camera = units @ self.camera @ np.linalg.inv(units)
        depth = camera[2] / np.linalg.svd(camera, compute_uv=False)[1] * np.sign(camera[2, 2]) @ units
        return middle, atan2(float(x[1] - y[0]), float(x[0] + y[1])), np.asarray(depth, np.float32)


def estimate_motion(a: Frame, b: Frame) -> Motion:
    """Measure the motion between two images of one size."""
    forward, backward, camera = dense_flow(a, b)
    confidence = min(_confidence(a, b, forward, backward), _confidence(b, a, backward, forward))
    return Motion(forward, backward, camera, confidence)


def _rotation(angle: float) -> Floats:
    """For rows of points: `points @ _rotation(angle)`."""
    c, s = cos(angle), sin(angle)
    return np.array([[c, s], [-s, c]], np.float32)


def _confidence(a: Frame, b: Frame, there: Floats, back: Floats) -> float:
    """Mean over what both images show of (returns to its start) x (looks the same), 0 to 1.

    The look is compared by correlation in small windows, which does not mind a change of light. Pixels count by
    their contrast: flat areas agree with anything.
    """
    at = grid(*there.shape[:2]) + there
    seen = inside(at)
    if not seen.any():
        return 0.0
    miss = there + sample(back, at)
    returns = np.exp(-(np.square(miss).sum(2) / (_TOLERANCE * max(there.shape)) ** 2))
    alike, contrast = _correlation(*(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, sample(b, at))))
    mean = np.average((returns * alike)[seen], weights=contrast[seen])
    return float(mean) * min(1.0, float(seen.mean()) / _ENOUGH_OVERLAP)


def _correlation(a: Grey, b: Grey) -> tuple[Floats, Floats]:
    """Normalised correlation of two images in the window round each pixel (opposites are 0), and the contrast of a."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    mean_x, mean_y = _blur(x), _blur(y)
    spread_x = np.maximum(_blur(x * x) - mean_x * mean_x, 0) + _NOISE
    spread_y = np.maximum(_blur(y * y) - mean_y * mean_y, 0) + _NOISE
    together = _blur(x * y) - mean_x * mean_y
    alike = np.maximum(together / np.sqrt(spread_x * spread_y), 0)
    return np.asarray(alike, np.float32), np.asarray(spread_x / (spread_x + _CONTRAST), np.float32)


def _blur(image: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _WINDOW))
