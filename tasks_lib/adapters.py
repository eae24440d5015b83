"""Where the adapters lie that tasks name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.params.asked import source_of, texts_in
from tasks_lib.settings import Settings

URL = ("https://", "http://")


def adapters_of(params: Mapping[str, Any]) -> list[str]:
    """The adapters that stored params name, each once."""
    named = {name: params[name] for name in ("loras", "phase_config") if params.get(name)}
    return list(dict.fromkeys(place for path, place in texts_in(named) if path.endswith((".path", ".url"))))


def require_adapters(params: Mapping[str, Any], fields: Mapping[str, Sequence[str]], settings: Settings) -> None:
    """Raise `TaskValidationError` for an adapter that is known not to be here: the field of the request is named."""
    for place in adapters_of(params):
        try:
            adapter_file(place, settings)
        except EngineError as error:
            field = source_of(place, params, fields)
            raise TaskValidationError(f"`{field}`: {error}", field) from None


def adapter_file(place: str, settings: Settings) -> Path | None:
    """The file of an adapter, below the folder of adapters; None for that of a URL, which may still be fetched.

    Raises `EngineError` that names the setting where there is none.
    """
    if settings.lora_folder is None:
        if place.startswith(URL):
            return None
        raise EngineError(f"the adapter `{place}` is not here: set UNITASK_LORA_FOLDER to the folder of adapters")
    folder = settings.lora_folder.expanduser().resolve()
    if place.startswith(URL):
        path = folder / "fetched" / f"{hashlib.sha256(place.encode()).hexdigest()}.safetensors"
        return path if path.is_file() else None
    for name in (place, f"{place}.safetensors"):
        path = (folder / name).resolve()
        if path.is_relative_to(folder) and path.suffix == ".safetensors" and path.is_file():
            return path
    raise EngineError(f"there is no adapter `{place}` (a safetensors file) in UNITASK_LORA_FOLDER")
