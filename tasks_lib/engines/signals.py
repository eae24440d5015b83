"""What a guide shows a model: the motion, the edges or the depth of a video, as pictures. Two frames are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from tasks_lib.engines.base import UNGUIDED, Frame
from tasks_lib.engines.embedded.flow import Floats, plain_flow
from tasks_lib.media.clips import Clip, Form
from tasks_lib.planning.guides import Sight

Draw = Callable[[Frame, Frame], Frame]
"""The picture of what happens from one frame to another; most look at the latter alone."""

# Baker et al. 2011: so many hues from red to yellow, to green, cyan, blue, magenta, and back to red.
_HUES = (15, 6, 4, 11, 13, 6)
_RAINBOW = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]])
_LARGEST = 95  # the percentile that counts as the largest motion: what comes in at a border is often measured wrong
_STILL = 1.0  # pixels: where nothing moves by more, the noise of the flow is not blown up
_CANNY = (100, 200)


def drawn(
    plan: Sequence[Sight | None], files: Mapping[int, Path], form: Form, draw: Draw, *, moving: bool
) -> Iterator[Frame]:
    """A picture for each entry of a plan, in the size of `form`; mid-grey, which guides nothing, where there is none.

    `moving` says that `draw` looks at the frame before, too.
    """
    nothing = np.full((form.height, form.width, 3), UNGUIDED, np.uint8)
    for video, part in groupby(plan, key=lambda sight: None if sight is None else sight.video):
        if video is None:
            yield from (nothing for _ in part)
        else:
            pairs = [sight.moved if moving else (sight.frame, sight.frame) for sight in part if sight is not None]
            yield from _of_one(pairs, files[video], form, draw)


def flow(strength: float) -> Draw:
    """Motion as colours: the hue is its direction, the saturation its speed as a share of the frame's largest.

    `strength` scales the motion: at 0 everything stands still, above 1 slower motion is as saturated as the fastest.
    """

    def draw(before: Frame, now: Frame) -> Frame:
        moved = plain_flow(*(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, now)))
        largest = np.percentile(np.hypot(moved[..., 0], moved[..., 1]), _LARGEST)
        return colour_wheel(moved * np.float32(strength / max(float(largest), _STILL)))

    return draw


def edges(intensity: float) -> Draw:
    """Canny's edges, white at intensity 1, on black."""
    return lambda _, now: np.asarray(
        cv2.cvtColor(
            cv2.convertScaleAbs(cv2.Canny(cv2.cvtColor(now, cv2.COLOR_RGB2GRAY), *_CANNY), alpha=intensity),
            cv2.COLOR_GRAY2RGB,
        ),
        np.uint8,
    )


def as_is(_: Frame, now: Frame) -> Frame:
    """The frames themselves."""
    return now


def colour_wheel(motion: Floats) -> Frame:
    """Displacements (x, y), of which 1 is the largest, in the colours of Baker et al. ("A Database and Evaluation
    Methodology for Optical Flow", 2011): white stands still, right is red, down yellow, left cyan, up violet.

    Larger ones count as 1.
    """
    x, y = motion[..., 0], motion[..., 1]
    total = sum(_HUES)
    # Their wheel begins on the right and turns with the clock, in which y points down.
    place = (np.arctan2(y, x) / (2 * np.pi) % 1) * (total - 1)
    marks = np.cumsum((0, *_HUES))
    hue = np.stack([np.interp(place, marks, _RAINBOW[:, channel]) for channel in range(3)], axis=-1)
    speed = np.minimum(np.hypot(x, y), 1)[..., None]
    return np.asarray(np.floor(255 * (1 - speed * (1 - hue))), np.uint8)


def _of_one(pairs: Sequence[tuple[int, int]], path: Path, form: Form, draw: Draw) -> Iterator[Frame]:
    """The pictures of pairs of frames of one video, which are asked for in rising order."""
    wanted = sorted({index for pair in pairs for index in pair})
    decoded = zip(wanted, Clip(path, form, wanted).frames(0, len(wanted)), strict=True)
    held: dict[int, Frame] = {}
    for (before, now), same in groupby(pairs):
        while now not in held:
            index, frame = next(decoded)
            held = {i: kept for i, kept in held.items() if i >= before} | {index: frame}
        picture = draw(held[before], held[now])
        yield from (picture for _ in same)
