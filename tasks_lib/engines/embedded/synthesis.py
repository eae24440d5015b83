"""The frame at any time between two images whose motion is known.

NumPy and OpenCV rather than torch: `remap` is several times faster than `grid_sample` on a CPU, `bincount` is as fast
as `index_add_`, and the engine starts without torch's 3 s of import.
"""

from __future__ import annotations

import cv2
import numpy as np

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.flow import Floats, colour_error, grid, inside, move, sample
from tasks_lib.engines.embedded.motion import Motion, estimate_motion

WORKING_SIDES = (512, 768)
"""Motion is measured with a long side within these; the pixels themselves are moved in full size."""

_TRACKS = 0.5  # of the working size: the grid that is splatted. Finer costs three times the time for 0.03 dB at most.
_WRONG = 20.0  # grey levels: how fast a pixel whose colour does not agree loses against those that land beside it
_CAMERA_WRONG = 4.0  # the same for the camera alone: a smaller miss tells that something here moves by itself
_LEAVES = 0.02  # what a pixel that leaves the frame counts: its flow is a guess, but often nothing else lands there
_EDGE = 3.0  # cells over which an image fades out beyond its own border
_UNSEEN = 1e-3  # weight of what is not really known; never 0, since both may be unknown


class Between:
    """Frames between a and b, by forward splatting of both flows (Niklaus and Liu 2020) and a time-weighted blend."""

    def __init__(self, a: Frame, b: Frame) -> None:
        self._images = a, b
        height, width = a.shape[:2]
        motion, scale = measured(a, b)
        coarse_a, coarse_b = _resized(a, scale * _TRACKS), _resized(b, scale * _TRACKS)
        self._cells = here = grid(*coarse_a.shape[:2])
        self._pixels = grid(height, width)
        self.motion: Motion = motion.resized(*coarse_a.shape[:2])
        there_a, there_b = here + self.motion.forward, here + self.motion.backward
        camera = self.motion.camera
        back = None if camera is None else np.linalg.inv(camera)
        # The tracks of the cells of a and of b: where each starts, where it ends, and what speaks for it.
        self._tracks = (
            (here, there_a, _worth(coarse_a, coarse_b, there_a, camera)),
            (there_b, here, _worth(coarse_b, coarse_a, there_b, back)),
        )

    @property
    def confidence(self) -> float:
        """How far the motion can be trusted, 0 to 1."""
        return self.motion.confidence

    def at(self, t: float) -> Frame:
        """The frame at time t from 0 (exactly a) to 1 (exactly b)."""
        if t in (0, 1):
            return self._images[int(t)]
        (seen_a, weight_a), (seen_b, weight_b) = (self._moved(i, t) for i in (0, 1))
        share = weight_b * np.float32(t) / (weight_a * np.float32(1 - t) + weight_b * np.float32(t))
        return np.asarray(cv2.blendLinear(seen_a, seen_b, 1 - share, share), np.uint8)

    def _moved(self, which: int, t: float) -> tuple[Frame, Floats]:
        """One image moved to time t, height x width x 3, and how much each of its pixels is worth there."""
        start, end, worth = self._tracks[which]
        now = self.motion.between(start, end, t)
        offset, landed = splat(self._cells - now, now, worth)
        offset = fill(offset, landed)
        known = np.clip(cv2.GaussianBlur(landed, (0, 0), 1) * 2, 10 * _UNSEEN, 1) * _within(self._cells + offset)
        height, width = self._pixels.shape[:2]
        factor = np.array([width / known.shape[1], height / known.shape[0]], np.float32)
        source = self._pixels + cv2.resize(offset * factor, (width, height))
        moved = sample(self._images[which], source, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)
        return moved, np.asarray(cv2.resize(known, (width, height)), np.float32)


def measured(a: Frame, b: Frame) -> tuple[Motion, float]:
    """The motion between two images in the working size, and what that is of their own."""
    scale = float(np.clip(1, *(side / max(a.shape) for side in WORKING_SIDES)))
    return estimate_motion(_resized(a, scale), _resized(b, scale)), scale


def splat(values: Floats, at: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Throw height x width x 2 values onto the pixels round the positions `at`, bilinearly.

    Returns the weighted sums, height x width x 2, and the sums of the weights, height x width.
    """
    height, width = weight.shape
    # Two cells of margin on each side take what falls outside, wholly or by half.
    stride, size = width + 4, (height + 4) * (width + 4)
    corner = np.floor(at)
    fx, fy = np.moveaxis(at - corner, 2, 0)
    x = np.clip(corner[..., 0], -2, width).astype(np.intp)
    y = np.clip(corner[..., 1], -2, height).astype(np.intp)
    first = ((y + 2) * stride + x + 2).ravel()
    # In double precision, which `bincount` takes as it is: four times as fast as from single.
    carried = np.stack([values[..., 0] * weight, values[..., 1] * weight, weight]).astype(np.float64)
    sums = np.zeros((3, size))
    for step, part in ((0, (1 - fx) * (1 - fy)), (1, fx * (1 - fy)), (stride, (1 - fx) * fy), (stride + 1, fx * fy)):
        for total, value in zip(sums, carried, strict=True):
            total += np.bincount(first + step, (value * part).ravel(), size)
    inner = sums.reshape(3, height + 4, stride)[:, 2:-2, 2:-2].astype(np.float32)
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


def _resized(image: Frame, scale: float) -> Frame:
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _worth(a: Frame, b: Frame, at: Floats, camera: Floats | None) -> Floats:
    """What speaks for the place of each pixel of a in b, 0 to 1: that it looks the same there.

    Where the camera leaves nothing of b to look at, it is how well the camera explains the nearest pixels that b shows.
    """
    worth = np.where(inside(at), np.exp(-colour_error(a, b, at) / _WRONG), np.float32(_LEAVES))
    if camera is None:
        return worth
    carried = move(camera, grid(*at.shape[:2]))
    seen = inside(carried).astype(np.float32)
    explained = np.exp(-colour_error(a, b, carried) / _CAMERA_WRONG) * seen
    return np.where(seen > 0, worth, fill(np.dstack([explained, explained]), seen)[..., 0])


def _within(at: Floats) -> Floats:
    """1 inside the frame, falling to almost nothing `_EDGE` cells outside."""
    height, width = at.shape[:2]
    x, y = at[..., 0], at[..., 1]
    depth = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
    return np.asarray(np.clip(1 + depth / _EDGE, _UNSEEN, 1), np.float32)
