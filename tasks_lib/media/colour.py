"""Colour correction of frames, one at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tasks_lib.engines.base import Frame

# Rec. 709: how bright each of red, green and blue seems.
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def adjusted(frames: Iterator[Frame], saturation: float, brightness: float) -> Iterator[Frame]:
    """Scale the distance of every pixel from its grey by `saturation`, then add `brightness` (a share of white).

    1 and 0 give the frames as they are.
    """
    return (
        frames if saturation == 1 and brightness == 0 else (_adjust(frame, saturation, brightness) for frame in frames)
    )


def _adjust(frame: Frame, saturation: float, brightness: float) -> Frame:
    grey = (frame @ _LUMA)[..., None]
    changed = grey + (frame - grey) * np.float32(saturation) + np.float32(255 * brightness)
    return np.rint(changed).clip(0, 255).astype(np.uint8)
