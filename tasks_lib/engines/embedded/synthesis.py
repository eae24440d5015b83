"""The frame at any time between two images whose motion is known.

NumPy and OpenCV rather than torch: `remap` is several times faster than `grid_sample` on a CPU, `bincount` is as fast
as `index_add_`, and the engine starts without torch's 3 s of import.
"""

from __future__ import annotations

import cv2
import numpy as np

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.flow import Floats, colour_error, grid, inside, sample
from tasks_lib.engines.embedded.motion import Motion, estimate_motion

WORKING_SIDE = 768
"""Motion is measured and splatted with at most this long side; the pixels themselves are moved in full size."""

_WRONG = 20.0  # grey levels: how fast a pixel whose colour does not agree loses against those that land beside it
_LEAVES = 0.02  # what a pixel that leaves the frame counts: its flow is a guess, but often nothing else lands there
_EDGE = 6.0  # pixels over which an image fades out beyond its own border
_UNSEEN = 1e-3  # weight of what is not really known; never 0, since both may be unknown


class Between:
    """Frames between a and b, by forward splatting of both flows (Niklaus and Liu 2020) and a time-weighted blend."""

    def __init__(self, a: Frame, b: Frame) -> None:
        self._images = a, b
        height, width = a.shape[:2]
        scale = min(1.0, WORKING_SIDE / max(height, width))
        size = round(width * scale), round(height * scale)
        small_a, small_b = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (a, b))
        self.motion: Motion = estimate_motion(small_a, small_b)
        here = grid(*small_a.shape[:2])
        there_a, there_b = here + self.motion.forward, here + self.motion.backward
        # The tracks of the pixels of a and of b: where each starts, where it ends, and how well the two ends agree.
        self._tracks = (
            (here, there_a, _worth(small_a, small_b, there_a)),
            (there_b, here, _worth(small_b, small_a, there_b)),
        )
        self._here = here

    def at(self, t: float) -> Frame:
        """The frame at time t from 0 (exactly a) to 1 (exactly b)."""
        if t in (0, 1):
            return self._images[int(t)]
        (seen_a, weight_a), (seen_b, weight_b) = (self._moved(i, t) for i in (0, 1))
        weight_a, weight_b = weight_a * np.float32(1 - t), weight_b * np.float32(t)
        share = weight_b / (weight_a + weight_b)
        mixed = seen_a + (seen_b - seen_a) * share[..., None]
        return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)

    def _moved(self, which: int, t: float) -> tuple[Floats, Floats]:
        """One image moved to time t, height x width x 3, and how much each of its pixels is worth there."""
        start, end, worth = self._tracks[which]
        now = self.motion.between(start, end, t)
        offset, landed = splat(self._here - now, now, worth)
        source = self._here + fill(offset, landed)
        known = np.clip(cv2.GaussianBlur(landed, (0, 0), 1) * 2, 10 * _UNSEEN, 1) * _within(source)
        image = self._images[which]
        height, width = image.shape[:2]
        if known.shape != (height, width):
            factor = np.array([width / known.shape[1], height / known.shape[0]], np.float32)
            # Pixel centres: (x + 1/2) scales, not x.
            source = cv2.resize((source + 0.5) * factor - 0.5, (width, height))
            known = cv2.resize(known, (width, height))
        return sample(image, source, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101).astype(np.float32), known


def splat(values: Floats, at: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Throw height x width x 2 values onto the pixels round the positions `at`, bilinearly.

    Returns the weighted sums, height x width x 2, and the sums of the weights, height x width.
    """
    height, width = weight.shape
    corner = np.floor(at).astype(np.int32)
    x, y = corner[..., 0], corner[..., 1]
    hit = (x >= -1) & (x < width) & (y >= -1) & (y < height)
    fx, fy = (at - corner)[hit].T
    stride, size = width + 2, (height + 2) * (width + 2)  # one cell of margin takes what falls half outside
    first = (y[hit] + 1) * stride + x[hit] + 1
    carried = (values[..., 0][hit], values[..., 1][hit], np.float32(1))
    sums = np.zeros((3, size))
    for step, part in ((0, (1 - fx) * (1 - fy)), (1, fx * (1 - fy)), (stride, (1 - fx) * fy), (stride + 1, fx * fy)):
        share = part * weight[hit]
        for total, value in zip(sums, carried, strict=True):
            total += np.bincount(first + step, share * value, size)
    inner = sums.reshape(3, height + 2, stride)[:, 1:-1, 1:-1].astype(np.float32)
    return np.dstack([inner[0], inner[1]]), inner[2]


def fill(sums: Floats, weight: Floats) -> Floats:
    """Divide sums by weights; holes take the value of their surroundings (push-pull: Gortler et al. 1996)."""
    mean: Floats = np.asarray(sums / np.maximum(weight, 1e-6)[..., None], np.float32)
    if min(weight.shape) <= 2:
        return mean
    trust = np.minimum(weight, 1)[..., None]
    coarse = fill(cv2.pyrDown(mean * trust), cv2.pyrDown(trust))
    around = cv2.resize(coarse, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(around + (mean - around) * trust, np.float32)


def _worth(a: Frame, b: Frame, at: Floats) -> Floats:
    """How well each pixel of a agrees with its place in b, 0 to 1; little speaks for those that leave the frame."""
    agreement = np.exp(-colour_error(a, b, at) / _WRONG)
    return np.where(inside(at), agreement, np.float32(_LEAVES))


def _within(at: Floats) -> Floats:
    """1 inside the frame, falling to almost nothing at `_EDGE` pixels outside."""
    height, width = at.shape[:2]
    depth = np.minimum(at, np.array([width - 1, height - 1], np.float32) - at).min(axis=2)
    return np.asarray(np.clip(1 + depth / _EDGE, _UNSEEN, 1), np.float32)
