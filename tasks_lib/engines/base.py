"""What an engine is: it takes a request of paths and numbers and gives frames, and says truly how it made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks_lib.errors import TaskValidationError

Frame = NDArray[np.uint8]
"""One picture, H x W x 3, RGB."""

OnProgress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""

IsCancelled = Callable[[], bool]


class Cancelled(Exception):  # noqa: N818 - the name of an outcome, not of a fault
    """Somebody asked the work to stop; what was made so far is to be thrown away."""


@dataclass(frozen=True)
class Context:
    """The clip that a request goes on from: its last `frames` frames, which end on the start image."""

    video: Path
    frames: int

    def __post_init__(self) -> None:
        _at_least("context.frames", self.frames, 1)


@dataclass(frozen=True)
class InbetweenRequest:
    """Exactly `frames` frames that travel from one image to another.

    Without context, frame 0 is the start image (unless `start_included` is false) and the last frame the end image.
    With context, the first `context.frames` frames are the tail of that clip, and the rest move on from the start
    image (exclusive) to the end image (inclusive). Without an end image the travel ends where the engine likes.
    """

    kind: ClassVar[str] = "inbetween"

    start: Path
    end: Path | None
    frames: int
    width: int
    height: int
    context: Context | None = None
    start_included: bool = True
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    fps: float = 16

    def __post_init__(self) -> None:
        _at_least("width", self.width, 16)
        _at_least("height", self.height, 16)
        shown = self.context.frames if self.context else 0
        anchors = int(self.opens_on_start) + int(self.end is not None)
        _at_least("frames", self.frames, shown + max(1, anchors))

    @property
    def opens_on_start(self) -> bool:
        """Whether the first new frame is the start image itself."""
        return self.start_included and self.context is None

    def times(self) -> list[float]:
        """When each new frame stands between start (0) and end (1), evenly; the frames of the context have none."""
        if self.opens_on_start:
            return [i / max(self.frames - 1, 1) for i in range(self.frames)]
        new = self.frames - (self.context.frames if self.context else 0)
        return [(i + 1) / new for i in range(new)]


Request = InbetweenRequest
"""Every kind of request that an engine may be asked for."""


@dataclass(frozen=True)
class Estimate:
    """What a run will cost on this machine: wall seconds and bytes of working memory."""

    seconds: float
    bytes: int


@dataclass(frozen=True)
class ModelRef:
    """The weights that were used; the digest is the SHA-256 of their files."""

    id: str
    digest: str | None = None


@dataclass(frozen=True)
class Provenance:
    """How frames were made. `confidence` is 0 to 1, or None where the method has no such measure."""

    engine: str
    method: str
    seed: int
    model: ModelRef | None = None
    confidence: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return asdict(self) | {"versions": dict(self.versions), "notes": list(self.notes)}


@dataclass(frozen=True)
class EngineResult:
    """Frames, made as they are drawn, and their provenance, which is complete before the first is drawn."""

    frames: Iterator[Frame]
    provenance: Provenance


class Engine(Protocol):
    """What makes pixels. An engine never fakes: a request that it cannot serve ends in `EngineError`."""

    name: str

    def capabilities(self) -> frozenset[str]:
        """The kinds of request that it serves."""

    def estimate(self, request: Request) -> Estimate:
        """What `run` would cost, without loading anything."""

    def run(self, request: Request, *, on_progress: OnProgress, cancelled: IsCancelled) -> EngineResult:
        """Prepare the request and give its frames lazily. Raises `Cancelled` within one frame of a cancellation."""


def watched(frames: Iterable[Frame], total: int, *, on_progress: OnProgress, cancelled: IsCancelled) -> Iterator[Frame]:
    """Pass frames on, report each, and raise `Cancelled` before the next is drawn when asked to stop."""
    source = iter(frames)
    for step in count(1):
        if cancelled():
            raise Cancelled(f"stopped before frame {step} of {total}")
        frame = next(source, None)
        if frame is None:
            return
        yield frame
        on_progress(step, total)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise TaskValidationError(f"`{name}` is {value}; at least {least} is needed here", name)
