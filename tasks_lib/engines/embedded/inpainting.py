"""Filling a part of a picture with what stands elsewhere in it, from its edge inwards.

Patch by patch as Criminisi et al. (2004) order them: first where much round a pixel is known and an edge runs into the
hole. What is known of the patch is looked for in the surroundings, exactly and everywhere, and the unknown rest becomes
a mean of the best finds, the better the more (Wong and Orchard 2008), each in the light of the place it comes to.

A large picture is cut into blocks of s x s pixels, so that its longer side has at most `_FINEST` of them: patches are
compared by the blocks' mean colours, and whole blocks are copied, so the fill is as sharp as the picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from tasks_lib.engines.base import Cancelled, EngineResult, Estimate, Frame, InpaintRequest, IsCancelled, OnStep
from tasks_lib.engines.embedded.flow import Bools, Floats
from tasks_lib.engines.embedded.provenance import made
from tasks_lib.errors import TaskValidationError
from tasks_lib.media.images import load_image

_FINEST = 512  # blocks on the longer side
_REACH = 3
_SIDE = 2 * _REACH + 1  # of a patch, in blocks
_AROUND = 72  # blocks round a hole in which patches are looked for
_FINDS = 8  # that are averaged
_SOFT = 0.6  # how fast worse finds count less: a share of the best one's error
_PLAIN = 2.0  # what a pixel without an edge counts against those with one, in grey levels a pixel
_NOISE = 12.0  # grey levels squared: errors below it are no errors
_FAR = 3.0  # what each block of distance adds to an error
_POOR = 160.0  # grey levels squared: at this error a find counts half, against the smooth fill that is the first guess
_EVEN = 2.0  # grey levels squared: differences below it are noise
_SECONDS_PER_BLOCK = 4e-4


def estimate(request: InpaintRequest) -> Estimate:
    """From measurements on two cores of 2 GHz, for a hole of a tenth of the picture."""
    pixels = request.width * request.height
    return Estimate(0.1 * min(pixels, _FINEST**2) * _SECONDS_PER_BLOCK, 40 * pixels)


def inpaint(request: InpaintRequest, *, on_progress: OnStep, cancelled: IsCancelled) -> EngineResult:
    """The picture with its masked part filled; every other pixel stays as it is."""
    image = load_image(request.image, request.width, request.height)
    hole = load_image(request.mask, request.width, request.height).mean(axis=2) >= 128

    def drawn() -> Iterator[Frame]:
        size = -(-max(hole.shape) // _FINEST)
        blocks, unknown = _in_blocks(image, hole, size)
        total = int(unknown.sum())
        for left in fill(blocks, unknown):
            if cancelled():
                raise Cancelled(f"stopped with {left} of {total} to fill")
            on_progress(total - left, total)
        yield np.where(hole[..., None], _of_blocks(blocks, *hole.shape), image)

    return EngineResult(drawn(), made("patches", request.seed))


def fill(blocks: Frame, unknown: Bools) -> Iterator[int]:
    """Fill the unknown blocks of an image, H x W x s x s x 3, in place; after each patch, how many are left.

    Raises `TaskValidationError` for a hole round which no whole patch is known.
    """
    left = int(unknown.sum())
    number, labels = cv2.connectedComponents(unknown.astype(np.uint8))
    for label in range(1, number):
        for done in _fill_one(*_surroundings(blocks, unknown, labels == label)):
            left -= done
            yield left


def _surroundings(blocks: Frame, unknown: Bools, hole: Bools) -> tuple[Frame, Bools, Bools]:
    """Views of what is near a hole: the blocks, this hole, and what is unknown of any hole."""
    rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
    near = tuple(slice(max(0, at[0] - _AROUND), at[-1] + 1 + _AROUND) for at in (rows, columns))
    return blocks[near], hole[near].copy(), unknown[near]


def _fill_one(blocks: Frame, hole: Bools, unknown: Bools) -> Iterator[int]:
    """Fill one hole; after each patch, how many blocks it filled. Other holes in `unknown` are left alone."""
    whole = cv2.erode((~unknown).astype(np.uint8), np.ones((_SIDE, _SIDE)), borderValue=0) > 0
    places = whole[_REACH:-_REACH, _REACH:-_REACH]
    if not places.any():
        raise TaskValidationError("the mask leaves too little of the picture round it to fill it from", "mask_url")
    means = np.ascontiguousarray(blocks.mean(axis=(2, 3)), np.float32)
    guess = cv2.inpaint(np.rint(means).astype(np.uint8), unknown.astype(np.uint8), _REACH, cv2.INPAINT_NS)
    means[unknown] = guess[unknown]
    trust = (~unknown).astype(np.float32)
    while hole.any():
        window = _next_window(means, trust, hole)
        rows, columns = np.nonzero(hole[window])
        target = rows + window[0].start, columns + window[1].start
        found, weights = _alike(means, trust, window, places)
        sources = [(rows + top, columns + left) for top, left in found]
        lighter = sum(w * _lighter(means, trust, window, at) for w, at in zip(weights, found, strict=True))
        rest = (1 - weights.sum()) * means[target] + lighter
        means[target] = rest + sum(w * means[at] for w, at in zip(weights, sources, strict=True))
        drawn = rest[:, None, None] + sum(w * blocks[at] for w, at in zip(weights, sources, strict=True))
        blocks[target] = np.rint(drawn).clip(0, 255)
        trust[target] = trust[window].mean()
        hole[target] = False
        yield len(rows)


def _next_window(means: Floats, trust: Floats, hole: Bools) -> tuple[slice, slice]:
    """The patch round that pixel of the hole's edge which comes next."""
    edge = hole & (cv2.erode(hole.astype(np.uint8), np.ones((3, 3))) == 0)
    grey = cv2.cvtColor(means, cv2.COLOR_RGB2GRAY)
    across, down = (cv2.Scharr(grey, cv2.CV_32F, x, 1 - x) / 16 for x in (1, 0))
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 1)
    into_x, into_y = (cv2.Scharr(soft, cv2.CV_32F, x, 1 - x) for x in (1, 0))
    runs_in = np.abs(across * into_y - down * into_x)
    urgent = cv2.blur(trust, (_SIDE, _SIDE)) * (runs_in + _PLAIN)
    y, x = np.unravel_index(np.argmax(np.where(edge, urgent, -1)), hole.shape)
    top, left = (int(np.clip(at - _REACH, 0, n - _SIDE)) for at, n in zip((y, x), hole.shape, strict=True))
    return slice(top, top + _SIDE), slice(left, left + _SIDE)


def _alike(
    means: Floats, trust: Floats, window: tuple[slice, slice], places: Bools
) -> tuple[list[tuple[int, int]], Floats]:
    """The corners of the patches that are most like the known part of this one, and what each counts: 1 in all, or
    less where even they are not alike."""
    known = np.dstack([trust[window] > 0] * 3).astype(np.float32)
    errors = cv2.matchTemplate(means, means[window], cv2.TM_SQDIFF, mask=known) / known.sum()
    y, x = np.ogrid[: errors.shape[0], : errors.shape[1]]
    far = _FAR * np.hypot(y - window[0].start, x - window[1].start)
    cost = np.where(places, errors + far, np.inf)
    number = min(_FINDS, int(places.sum()))
    best = np.argpartition(cost, number - 1, axis=None)[:number]
    error = np.maximum(errors.ravel()[best], 0)
    weights = np.exp(-(error - error.min()) / (_SOFT * (error.min() + _NOISE)))
    weights *= _POOR / (_POOR + error.min()) / weights.sum()
    return list(zip(*np.unravel_index(best, errors.shape), strict=True)), np.asarray(weights, np.float32)


def _lighter(means: Floats, trust: Floats, window: tuple[slice, slice], found: tuple[int, int]) -> Floats:
    """By how much a patch is lighter than a find, in each colour, so far as that is all by which they differ.

    Light changes over a sky or a wall, and copied as they are the patches would show their edges.
    """
    there = means[found[0] : found[0] + _SIDE, found[1] : found[1] + _SIDE]
    differ = (means[window] - there)[trust[window] > 0]
    lighter = differ.mean(axis=0)
    return np.asarray(lighter * np.square(lighter) / (np.square(differ).mean(axis=0) + _EVEN), np.float32)


def _in_blocks(image: Frame, hole: Bools, size: int) -> tuple[Frame, Bools]:
    """An image as blocks, H x W x size x size x 3, the border repeated where it ends within one; which have a hole."""
    bottom, right = (-n % size for n in hole.shape)
    image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    hole = np.pad(hole, ((0, bottom), (0, right)))
    height, width = hole.shape[0] // size, hole.shape[1] // size
    blocks = image.reshape(height, size, width, size, 3).swapaxes(1, 2).copy()
    return blocks, np.asarray(hole.reshape(height, size, width, size).any(axis=(1, 3)))


def _of_blocks(blocks: Frame, height: int, width: int) -> Frame:
    """The image again, of its own height and width."""
    rows, columns, size = blocks.shape[:3]
    return np.asarray(blocks.swapaxes(1, 2).reshape(rows * size, columns * size, 3)[:height, :width])
