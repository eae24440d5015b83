"""The colours of frames that a model made, brought to those of the frames that it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks_lib.engines.base import Frame

_RATIO = (0.5, 2.0)  # of the spreads: beyond it, the model did not draw what it was given, and noise would be blown up
_FLAT = 0.5  # Lab units: what is no wider spread has no contrast to speak of


def matched(drawn: Sequence[Frame], known: Mapping[int, Frame]) -> list[Frame]:
    """Frames H x W x 3, RGB, without the cast that shows where the model drew a known frame again.

    In CIE Lab each channel is shifted and scaled so that its mean and standard deviation become those that are wanted
    (Reinhard et al., "Color Transfer between Images", 2001). Known frames in a row are taken together; between two
    such places the correction goes over from one to the other, and outside it stays what it is at the nearest.
    """
    corrections = [(run, *_correction(drawn, known, run)) for run in _runs(known)]
    if not corrections:
        return list(drawn)
    places = [place for run, *_ in corrections for place in (run[0], run[-1])]
    gains, offsets = (
        np.array([values for correction in corrections for values in (correction[which],) * 2]) for which in (1, 2)
    )
    made = []
    for i, frame in enumerate(drawn):
        gain, offset = (np.array([np.interp(i, places, column) for column in rows.T]) for rows in (gains, offsets))
        made.append(_from_lab(_to_lab(frame) * gain + offset))
    return made


def _runs(known: Mapping[int, Frame]) -> list[list[int]]:
    """The places of known frames, those in a row together."""
    runs: list[list[int]] = []
    for place in sorted(known):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _correction(
    drawn: Sequence[Frame], known: Mapping[int, Frame], run: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gain and offset of each Lab channel that give drawn frames the mean and spread of the known ones."""
    (mean, spread), (mean_wanted, spread_wanted) = (
        _statistics([frames[i] for i in run]) for frames in (dict(enumerate(drawn)), known)
    )
    gain = np.clip(np.maximum(spread_wanted, _FLAT) / np.maximum(spread, _FLAT), *_RATIO)
    return gain, mean_wanted - gain * mean


def _statistics(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each Lab channel over all pixels of frames of one size."""
    moments = np.mean([[lab.mean((0, 1)), np.square(lab).mean((0, 1))] for lab in map(_to_lab, frames)], axis=0)
    return moments[0], np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 0))


def _to_lab(frame: Frame) -> NDArray[np.float64]:
    return np.asarray(cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float64)


def _from_lab(lab: NDArray[np.float64]) -> Frame:
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(np.rint(rgb * 255).clip(0, 255), np.uint8)
