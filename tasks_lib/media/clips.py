"""Clips brought to one size and rate, read a range at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tasks_lib.engines.base import Frame
from tasks_lib.media.video import check_length, probe, probe_times, read_frames
from tasks_lib.params.base import size_of
from tasks_lib.planning.joins import resampled


@dataclass(frozen=True)
class Form:
    """Pixels and frames per second."""

    width: int
    height: int
    fps: float

    @classmethod
    def of(cls, first_clip: Path, resolution: str | None, fps: float | None) -> Form:
        """What is given, and for the rest as the first clip is, with its sides brought down to even numbers."""
        check_length(first_clip)
        facts = probe(first_clip)
        width, height = size_of(resolution) if resolution else (facts.width // 2 * 2, facts.height // 2 * 2)
        return cls(width, height, fps or facts.fps)


@dataclass(frozen=True)
class Clip:
    """A clip in a form: frame i of it is frame `sources[i]` of the file."""

    path: Path
    form: Form
    sources: list[int]
    begin: float = 0.0
    """When its first frame stands in the file's own time, in seconds."""

    @property
    def count(self) -> int:
        """How many frames it has in this form."""
        return len(self.sources)

    def frames(self, start: int, stop: int) -> Iterator[Frame]:
        """Frames start to stop (exclusive), their middle cut to the form's ratio; one is held in memory."""
        wanted = self.sources[start:stop]
        if not wanted:
            return
        position = 0
        decoded = islice(enumerate(read_frames(self.path)), wanted[0], wanted[-1] + 1)
        for index, frame in decoded:
            if index != wanted[position]:
                continue
            fitted = _fit(frame, self.form)
            while position < len(wanted) and wanted[position] == index:
                yield fitted
                position += 1


def open_clip(path: Path, form: Form) -> Clip:
    """A clip in a form. Raises `TaskValidationError` for what is not a video, or longer than the settings allow."""
    check_length(path)
    _, times = probe_times(path)
    return Clip(path, form, resampled(times, form.fps), times[0])


def _fit(frame: Frame, form: Form) -> Frame:
    if frame.shape[:2] == (form.height, form.width):
        return frame
    fitted = ImageOps.fit(Image.fromarray(frame), (form.width, form.height), Image.Resampling.LANCZOS)
    return np.asarray(fitted, np.uint8)
