"""The guide and the mask that tell VACE which frames it is given and which it is to make. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks_lib.engines.base import UNGUIDED, Frame


@dataclass(frozen=True)
class Guide:
    """As many frames as masks, one for each frame to make; a mask is white (255) where the model paints."""

    frames: list[Frame]
    masks: list[Frame]


def quantised(frames: int) -> int:
    """The least 4n+1 that is not below: what Wan makes. Given anything else it silently makes fewer."""
    return 4 * -(-(frames - 1) // 4) + 1


def build_guide(
    count: int, shape: tuple[int, int], known: Mapping[int, Frame], steering: Sequence[Frame] = ()
) -> Guide:
    """A guide of `count` frames of `shape` (height, width).

    A known frame is shown and kept. Every other one is made anew, steered by its frame of `steering` where there is
    one and from nothing, which is grey, where there is none.
    """
    grey, keep, make = (np.full((*shape, 3), level, np.uint8) for level in (UNGUIDED, 0, 255))
    shown = [known.get(i, steering[i] if i < len(steering) else grey) for i in range(count)]
    return Guide(shown, [keep if i in known else make for i in range(count)])
