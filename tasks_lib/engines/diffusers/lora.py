"""Adapters: put onto a pipeline for one task, and taken off after it, so that its weights are what they were."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

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
            loaded.load(f"task_{i}", find(place, settings), "both")
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

    def load(self, name: str, path: Path, expert: str) -> None:
        """Load one adapter into the model, or into one or both of a pair. Raises `EngineError` for what is none."""
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
    if settings.lora_folder is None:
        raise EngineError(f"the adapter `{place}` is not here: set UNITASK_LORA_FOLDER to the folder of adapters")
    folder = settings.lora_folder.expanduser().resolve()
    if place.startswith(("https://", "http://")):
        return _fetched(place, folder, settings)
    for name in (place, f"{place}.safetensors"):
        path = (folder / name).resolve()
        if path.is_relative_to(folder) and path.suffix == ".safetensors" and path.is_file():
            return path
    raise EngineError(f"there is no adapter `{place}` (a safetensors file) in UNITASK_LORA_FOLDER")


def _fetched(url: str, folder: Path, settings: Settings) -> Path:
    path = folder / "fetched" / f"{hashlib.sha256(url.encode()).hexdigest()}.safetensors"
    if path.is_file():
        return path
    if not settings.lora_download:
        raise EngineError("adapters are not fetched from URLs here; UNITASK_LORA_DOWNLOAD allows it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        download(url, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
