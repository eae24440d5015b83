"""What an engine is: it takes a request of paths and numbers and gives frames, and says truly how it made them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.params.loras import Lora
from tasks_lib.params.phases import PhaseConfig

T = TypeVar("T")

Frame = NDArray[np.uint8]
"""One picture, H x W x 3, RGB."""

UNGUIDED = 127
"""A frame of a guide that is all of this level guides nothing: so VACE was trained to be shown what it is to make."""

OnProgress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""

IsCancelled = Callable[[], bool]


class OnStep(Protocol):
    """How a run reports: (steps done, steps in all), and for a model's own steps what the result looks like so far."""

    def __call__(self, step: int, total: int, preview: Frame | None = None, /) -> None:
        """Report one step."""


class Cancelled(Exception):  # noqa: N818 - the name of an outcome, not of a fault
    """Somebody asked the work to stop; what was made so far is to be thrown away."""


@dataclass(frozen=True)
class Context:
    """The clip that a request goes on from: its last `frames` frames, which end on the start image."""

    video: Path
    frames: int

    def __post_init__(self) -> None:
        _at_least("context.frames", self.frames, 1)


@dataclass(frozen=True, kw_only=True)
class PromptedRequest:
    """What every request to draw something has: a size in pixels, words, noise, and how a model is to sample.

    Engines without weights follow neither words nor sampling, and their provenance says so. What is None is the
    model's own default.
    """

    width: int
    height: int
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    loras: tuple[Lora, ...] = ()

    def __post_init__(self) -> None:
        _at_least("width", self.width, 16)
        _at_least("height", self.height, 16)


@dataclass(frozen=True)
class InbetweenRequest(PromptedRequest):
    """Exactly `frames` frames that travel from one image to another.

    Without context, frame 0 is the start image (unless `start_included` is false) and the last frame the end image.
    With context, the first `context.frames` frames are the tail of that clip, and the rest move on from the start
    image (exclusive) to the end image (inclusive). Without an end image the travel ends where the engine likes.

    `guide` is a video of `frames` frames (motion, edges or depth as pictures) that steers what moves, and
    `guide_strength` how strongly, 1 being as it was meant. `shown` are further frames that are known, by their place.

    With `colour_match`, what a model makes is brought to the colours that it was given in the frames that are known.
    """

    kind: ClassVar[str] = "inbetween"

    start: Path
    end: Path | None
    frames: int
    context: Context | None = None
    start_included: bool = True
    fps: float = 16
    guide: Path | None = None
    guide_strength: float = 1.0
    shown: tuple[tuple[int, Path], ...] = ()
    colour_match: bool = False
    phases: PhaseConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        shown = self.context.frames if self.context else 0
        anchors = int(self.opens_on_start) + int(self.end is not None)
        _at_least("frames", self.frames, shown + max(1, anchors))
        if strays := [place for place, _ in self.shown if not 0 <= place < self.frames]:
            raise TaskValidationError(f"`shown` has the places {strays} among {self.frames} frames", "shown")

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


@dataclass(frozen=True)
class GenerateRequest(PromptedRequest):
    """One picture from words."""

    kind: ClassVar[str] = "generate"


@dataclass(frozen=True)
class EditRequest(PromptedRequest):
    """One picture from others and words: an edit of the first, which the rest lend their style, subject or drawing."""

    kind: ClassVar[str] = "edit"

    images: tuple[Path, ...]


@dataclass(frozen=True)
class VaryRequest(PromptedRequest):
    """One picture that starts from another: `strength` 0 keeps it, 1 ignores it."""

    kind: ClassVar[str] = "vary"

    image: Path
    strength: float


@dataclass(frozen=True)
class InpaintRequest(PromptedRequest):
    """One picture that equals `image` wherever `mask` is black, and is made anew where it is white."""

    kind: ClassVar[str] = "inpaint"

    image: Path
    mask: Path


@dataclass(frozen=True)
class UpscaleRequest:
    """One picture, `factor` times as wide and as high."""

    kind: ClassVar[str] = "upscale"

    image: Path
    factor: float
    prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class AnimateRequest(PromptedRequest):
    """As many frames as `video` has at `fps`, in which the character of `image` moves as the person in it does.

    `replace` keeps the video and puts the character in the person's place; `animate` keeps the image's surroundings.
    """

    kind: ClassVar[str] = "animate"

    image: Path
    video: Path
    mode: Literal["animate", "replace"]
    fps: float


Request = (
    InbetweenRequest | GenerateRequest | EditRequest | VaryRequest | InpaintRequest | UpscaleRequest | AnimateRequest
)
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

    def image(self) -> Frame:
        """The one frame of a picture."""
        pictures = list(self.frames)
        if len(pictures) != 1:
            raise EngineError(f"a picture was asked for and {len(pictures)} were made")
        return pictures[0]


class Engine(Protocol):
    """What makes pixels. An engine never fakes: a request that it cannot serve ends in `EngineError`."""

    name: str

    def capabilities(self) -> frozenset[str]:
        """The kinds of request that it serves."""

    def estimate(self, request: Request) -> Estimate:
        """What `run` would cost, without loading anything."""

    def ignores(self, request: Request) -> Mapping[str, str]:
        """The fields of a request that it does not follow, each with the reason; results say so of what was asked."""

    def run(self, request: Request, *, on_progress: OnStep, cancelled: IsCancelled) -> EngineResult:
        """Serve the request; frames may be made as they are drawn. Raises `Cancelled` within one frame, or one step
        of a model, of a cancellation, and `EngineError` for what it cannot serve."""


def all_but(request: Request, followed: frozenset[str], why: str) -> dict[str, str]:
    """The fields of a request that are not among those that an engine follows: a new field is not until it is named."""
    return {field.name: why for field in fields(request) if field.name not in followed}


def watched(frames: Iterable[T], total: int, *, on_progress: OnProgress, cancelled: IsCancelled) -> Iterator[T]:
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
