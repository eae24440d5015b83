"""The motion between two images, both ways, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atan2, cos, sin

import cv2
import numpy as np

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.flow import (
    Floats,
    Grey,
    camera_motion,
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
_ENOUGH_OVERLAP = 0.3  # of the frame: less in common lowers the confidence


@dataclass(frozen=True)
class Motion:
    """Displacements a to b (`forward`) and b to a (`backward`), height x width x 2, and the camera's part in them."""

    forward: Floats
    backward: Floats
    turn: float
    """How far the camera turned, in radians."""
    shift: Floats
    """How far the middle of the frame moved, (x, y)."""
    confidence: float

    def between(self, start: Floats, end: Floats, t: float) -> Floats:
        """Where points that go from `start` to `end` are at time t.

        They go straight as seen from a camera that itself goes straight and turns steadily: without the turn, a
        rotated picture would shrink on the way.
        """
        if not self.turn:
            return start + (end - start) * np.float32(t)
        height, width = start.shape[:2]
        middle = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
        upright = (end - middle - self.shift) @ _rotation(-self.turn)
        here = (start - middle) * np.float32(1 - t) + upright * np.float32(t)
        now = middle + self.shift * np.float32(t) + here @ _rotation(self.turn * t)
        return np.asarray(now, np.float32)

    def resized(self, height: int, width: int) -> Motion:
        """The same motion of the same images in another size."""
        before = self.forward.shape
        factor = np.array([width / before[1], height / before[0]], np.float32)
        forward, backward = (
            cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) * factor
            for flow in (self.forward, self.backward)
        )
        return replace(self, forward=forward, backward=backward, shift=self.shift * factor)


def estimate_motion(a: Frame, b: Frame) -> Motion:
    """Measure the motion between two images of one size."""
    grey_a, grey_b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b))
    camera = camera_motion(grey_a, grey_b)
    back = None if camera is None else np.linalg.inv(camera)
    forward, backward = dense_flow(a, b, camera), dense_flow(b, a, back)
    turn, shift = (0.0, np.zeros(2, np.float32)) if camera is None else _turn_and_shift(camera, *grey_a.shape)
    confidence = min(_confidence(a, b, forward, backward), _confidence(b, a, backward, forward))
    return Motion(forward, backward, turn, shift, confidence)


def _turn_and_shift(camera: Floats, height: int, width: int) -> tuple[float, Floats]:
    """The rotation nearest to the homography's linear part at the middle of the frame, and the middle's shift."""
    middle = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    arm = min(height, width) / 4
    cross = np.array([[0, 0], [arm, 0], [-arm, 0], [0, arm], [0, -arm]], np.float32)
    centre, right, left, below, above = move(camera, middle + cross)
    x, y = (right - left), (below - above)
    return atan2(float(x[1] - y[0]), float(x[0] + y[1])), centre - middle


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
