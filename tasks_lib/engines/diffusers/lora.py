"""Adapters: put onto a pipeline for one task, and taken off after it, so that its weights are what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tasks_lib.adapters import adapter_file
from tasks_lib.engines import device
from tasks_lib.engines.diffusers.phases import Plan
from tasks_lib.errors import EngineError
from tasks_lib.media.download import download
from tasks_lib.models import ModelLora
from tasks_lib.settings import Settings

_SECOND = "transformer_2"


@contextmanager
def adapters(pipeline: Any, own: Sequence[ModelLora], plan: Plan, settings: Settings) -> Iterator[Adapters]:
    """A model's own adapters and a plan's, loaded; whatever happens, all are off again at the end."""
    loaded = Adapters(pipeline, own, plan)
    try:
        for i, lora in enumerate(own):
            loaded.load(f"own_{i}", Path(lora.path).expanduser(), lora.expert)
        for i, place in enumerate(plan.adapters):
            loaded.load(f"task_{i}", find(place, settings), "both", place)
        yield loaded
    finally:
        if own or plan.adapters:
            pipeline.unload_lora_weights()


class Adapters:
    """The adapters that are on a pipeline, whose strengths can change from step to step."""

    def __init__(self, pipeline: Any, own: Sequence[ModelLora], plan: Plan) -> None:
        self._pipeline = pipeline
        self._own = own
        self._plan = plan
        self.notes: list[str] = []
        """What of an adapter found no place in the model."""

    def load(self, name: str, path: Path, expert: str, called: str | None = None) -> None:
        """Load one adapter into the model, or into one or both of a pair. Raises `EngineError` for what is none.

        Of one that a request calls by a name, the notes say how many of its tensors found no place.
        """
        pair = getattr(self._pipeline, _SECOND, None) is not None
        try:
            if expert != "low" or not pair:
                self._load(name, path)
            if expert != "high" and pair:
                self._load(name, path, load_into_transformer_2=True)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
            if device.is_shortage(error):
                raise
            raise EngineError(f"the adapter `{path.name}` cannot be loaded: {str(error)[:500]}") from error
        if not any(name in names for names in self._pipeline.get_list_adapters().values()):
            raise EngineError(f"the adapter `{path.name}` has nothing for a {type(self._pipeline).__name__}")
        if called is not None:
            self._note_what_is_left(name, path, called)

    def _note_what_is_left(self, name: str, path: Path, called: str) -> None:
        """Compare the tensors of a file with those that are in the model; of a pair, with those of the first."""
        given = self._pipeline.lora_state_dict(
            str(path.parent), weight_name=path.name, local_files_only=True, use_safetensors=True
        )
        tensors = [key for key in (given[0] if isinstance(given, tuple) else given) if ".lora_" in key]
        part = next(part for part, names in self._pipeline.get_list_adapters().items() if name in names)
        keys = [key for key, _ in getattr(self._pipeline, part).named_parameters()]
        left = len(tensors) - sum(".lora_" in key and f".{name}." in key for key in keys)
        if left:
            self.notes.append(f"{left} of {len(tensors)} tensors of the adapter `{called}` found no place in the model")

    def _load(self, name: str, path: Path, **options: Any) -> None:
        self._pipeline.load_lora_weights(
            str(path.parent),
            weight_name=path.name,
            adapter_name=name,
            local_files_only=True,
            use_safetensors=True,
            **options,
        )

    def set_strengths(self, step: int) -> None:
        """Give every adapter its strength of a step."""
        strengths = {f"own_{i}": lora.strength for i, lora in enumerate(self._own)}
        strengths |= {f"task_{i}": value for i, value in enumerate(self._plan.steps[step].strengths)}
        for part, names in self._pipeline.get_list_adapters().items():
            getattr(self._pipeline, part).set_adapters(names, [strengths[name] for name in names])


def find(place: str, settings: Settings) -> Path:
    """The file of an adapter that a task names: below the folder of adapters, or fetched into it where that is allowed.

    Raises `EngineError` that names the setting.
    """
    if (path := adapter_file(place, settings)) is not None:
        return path
    if settings.lora_folder is None:
        raise EngineError(f"the adapter `{place}` is not here: set UNITASK_LORA_FOLDER to the folder of adapters")
    if not settings.lora_download:
        raise EngineError(f"the adapter `{place}` is not fetched here; UNITASK_LORA_DOWNLOAD allows it")
    path = settings.lora_folder.expanduser().resolve() / "fetched" / f"{sha256(place.encode()).hexdigest()}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        download(place, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
