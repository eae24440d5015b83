"""The engine of a row of RIFE: the embedded engine's travel, with the network's frames where images belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from tasks_lib.engines import device, weights
from tasks_lib.engines.base import (
    Cancelled,
    EngineResult,
    Estimate,
    Frame,
    InbetweenRequest,
    IsCancelled,
    ModelRef,
    OnStep,
    Request,
    all_but,
)
from tasks_lib.engines.cache import Warm, warm_models
from tasks_lib.engines.embedded import inbetween
from tasks_lib.engines.embedded.provenance import FOLLOWED
from tasks_lib.engines.embedded.synthesis import measured
from tasks_lib.engines.rife.network import IFNet, Pair
from tasks_lib.errors import EngineError
from tasks_lib.models import Model
from tasks_lib.settings import Settings

METHOD = "rife"

_SECONDS_PER_PIXEL = 2.7e-6
_BYTES_PER_PIXEL = 600
T = TypeVar("T")


@dataclass(frozen=True)
class _Drawn:
    confidence: float
    at: Callable[[float], Frame]


class RifeEngine:
    """Frames between two images. What it loads stays in the cache of the process for the next task."""

    name = "rife"

    def __init__(self, alias: str, model: Model, settings: Settings) -> None:
        self._alias = alias
        self._model = model
        self._settings = settings

    def capabilities(self) -> frozenset[str]:
        """In-between frames alone."""
        return self._model.kinds

    def estimate(self, request: Request) -> Estimate:
        """From measurements on two cores of 2 GHz; a GPU takes a small part of it."""
        asked = self._required(request)
        pixels = asked.width * asked.height
        size = weights.size_on_disk(self._file())
        return Estimate(asked.frames * pixels * _SECONDS_PER_PIXEL, size + pixels * _BYTES_PER_PIXEL)

    def ignores(self, request: Request) -> Mapping[str, str]:
        """As the embedded engine: a network of motion knows no words and draws nothing at random."""
        return all_but(request, FOLLOWED, "RIFE only moves pixels")

    def run(self, request: Request, *, on_progress: OnStep, cancelled: IsCancelled) -> EngineResult:
        """Load the network and look at both images now, draw the frames as they are asked for.

        How far two images show one scene is measured as for the embedded engine: the network has no such measure, and
        melts two that do not.
        """
        asked = self._required(request)
        if cancelled():
            raise Cancelled("stopped before the first frame")
        warm = self._patiently(self._warm)

        def pair(a: Frame, b: Frame) -> _Drawn:
            motion, _ = measured(a, b)
            seen = self._patiently(lambda: Pair(warm.pipeline, a, b))
            return _Drawn(motion.confidence, lambda t: self._patiently(lambda: seen.at(t)))

        result = inbetween.travel(asked, on_progress=on_progress, cancelled=cancelled, method=METHOD, pair=pair)
        said = replace(result.provenance, engine=self.name)
        if said.method == METHOD:
            model = ModelRef(self._alias, warm.digest)
            said = replace(said, model=model, versions={**said.versions, "torch": torch.__version__})
        return replace(result, provenance=said)

    def _required(self, request: Request) -> InbetweenRequest:
        if not isinstance(request, InbetweenRequest):
            raise EngineError(f"the model `{self._alias}`, a {self._model.pipeline}, cannot serve `{request.kind}`")
        return request

    def _warm(self) -> Warm:
        path = self._file()
        size = weights.size_on_disk(path)
        return warm_models().get(self._alias, size, device.budget(self._settings), lambda: self._loaded(path))

    def _loaded(self, path: Path) -> Warm:
        digest = weights.digest(path)
        if self._model.sha256 not in (None, digest):
            raise EngineError(
                f"the weights of the model `{self._alias}` have the digest {digest}; UNITASK_MODELS says another"
            )
        try:
            network = IFNet(_tensors(path), device.name())
        except Exception as error:
            if device.is_shortage(error):
                raise
            detail = f"{type(error).__name__}: {str(error)[:300]}"
            raise EngineError(
                f"the model `{self._alias}` cannot be loaded from `{self._model.path}`, which should hold the weights"
                f" of RIFE 4.25 or 4.26: {detail}"
            ) from error
        return Warm(network, network.bytes, digest, "none", device.name() == "cpu")

    def _file(self) -> Path:
        path = Path(self._model.path).expanduser()
        if not path.is_file():
            raise EngineError(f"the model `{self._alias}` has no file `{self._model.path}`; see UNITASK_MODELS")
        return path

    def _patiently(self, make: Callable[[], T]) -> T:
        """What is made, at once or when every model was let go of. Short of memory then too, the task may succeed on
        another worker."""
        for _ in range(2):
            try:
                return make()
            except Exception as error:
                if not device.is_shortage(error):
                    raise
            warm_models().clear()
        raise EngineError(f"the model `{self._alias}` does not fit into the memory here", retryable=True)


def _tensors(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a file: safetensors, or a pickle that is read as nothing but tensors and runs no code."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found: Mapping[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found
