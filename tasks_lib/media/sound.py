"""The sound of a film: pieces of other files, each in step with its pictures, mixed as the pictures are drawn.

Where a film goes from one clip to the next, the one's sound is faded out over the bridge and the other's in, both by a
quarter of a sine. That keeps the power level where two unrelated sounds overlap, and where they only meet it keeps them
up for longer than a straight line does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import pi
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tasks_lib.errors import TaskValidationError
from tasks_lib.media.video import SOUND_RATE, Samples, open_container

_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mp3,wav,flac,ogg,aac"
# Containers round the times of their packets: below this (20 ms) sound simply goes on.
_JITTER = SOUND_RATE // 50


@dataclass(frozen=True)
class Piece:
    """A stretch of a file's sound, in seconds: what the file has from its moment `origin` on is heard in the film from
    `start` for `length`. Without an origin it is what the file has from its first sound on."""

    path: Path
    start: float
    length: float
    origin: float | None = None
    fade_in: float = 0
    fade_out: float = 0


def has_sound(path: Path) -> bool:
    """Whether a file holds any sound. Raises `TaskValidationError` for what cannot be read."""
    with open_container(path, _FORMATS) as container:
        return bool(container.streams.audio)


def mixed(pieces: Sequence[Piece], frames: int, fps: float) -> Iterator[Samples]:
    """For each frame of a film, what is heard with it; together as long as the film. Holds about a frame of each piece.

    Raises `TaskValidationError` for a file that cannot be read to its end, or has no sound.
    """
    voices = [_Voice(piece) for piece in pieces]
    for frame in range(frames):
        first, last = (round(number * SOUND_RATE / fps) for number in (frame, frame + 1))
        heard = np.zeros((2, last - first), np.float32)
        for voice in voices:
            voice.add_to(heard, first)
        yield heard.clip(-1, 1)


class _Voice:
    """One piece while it is heard."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._begin = round(piece.start * SOUND_RATE)
        self._end = round((piece.start + piece.length) * SOUND_RATE)
        self._source = _decoded(piece.path, piece.origin)
        self._held: Samples = np.zeros((2, 0), np.float32)

    def add_to(self, heard: Samples, first: int) -> None:
        """Add what is heard from sample `first` of the film on. Calls come in order."""
        begin, end = max(first, self._begin), min(first + heard.shape[1], self._end)
        if begin < end:
            heard[:, begin - first : end - first] += self._read(end - begin) * self._gain(begin, end)
        elif first >= self._end:
            self._source.close()

    def _read(self, count: int) -> Samples:
        while self._held.shape[1] < count and (more := next(self._source, None)) is not None:
            self._held = np.concatenate([self._held, more], axis=1)
        taken, self._held = self._held[:, :count], self._held[:, count:]
        return np.pad(taken, ((0, 0), (0, count - taken.shape[1])))

    def _gain(self, begin: int, end: int) -> NDArray[np.float32]:
        at = np.arange(begin, end)
        gain = np.ones(end - begin)
        for fade, past in ((self._piece.fade_in, at - self._begin), (self._piece.fade_out, self._end - at)):
            if fade:
                gain *= np.sin(pi / 2 * np.clip(past / (fade * SOUND_RATE), 0, 1))
        return gain.astype(np.float32)


def _decoded(path: Path, origin: float | None) -> Generator[Samples]:
    """All sound from `origin` on without gaps: what the file leaves out is silent, what it says twice is said once."""
    with open_container(path, _FORMATS) as container:
        if not container.streams.audio:
            raise TaskValidationError(f"`{path.name}` holds no sound")
        stream = container.streams.audio[0]
        # One channel goes to both sides as it is; FFmpeg's own way would make it 3 dB quieter.
        layout = "mono" if stream.layout.nb_channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=SOUND_RATE)
        done = 0
        for frame in chain(container.decode(stream), [None]):
            for part in resampler.resample(frame):
                time: float | None = part.time
                origin = (time or 0.0) if origin is None else origin
                late = 0 if time is None else round((time - origin) * SOUND_RATE) - done
                if done and abs(late) < _JITTER:
                    late = 0
                for left in range(late, 0, -SOUND_RATE):
                    yield np.zeros((2, min(left, SOUND_RATE)), np.float32)
                samples = np.broadcast_to(np.asarray(part.to_ndarray(), np.float32), (2, part.samples))
                heard = samples[:, max(-late, 0) :]
                if heard.shape[1]:
                    yield heard
                done += max(late, 0) + heard.shape[1]
