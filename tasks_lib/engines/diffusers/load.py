"""From a row of the table of models to a pipeline in memory, with everything that must not be loaded refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from tasks_lib.engines import device, weights
from tasks_lib.errors import EngineError
from tasks_lib.models import Model

# Their bars are for people who watch a terminal.
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

_LIBRARIES = {"diffusers", "transformers"}
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def load(alias: str, model: Model) -> Any:
    """The pipeline of a model, on the device that is there. Raises `EngineError` that says what is wrong with it."""
    folder = find(alias, model)
    own = {"processor": _processor(folder)} if "processor" in _check(alias, model, folder) else {}
    try:
        pipeline = getattr(diffusers, model.pipeline).from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype={"default": getattr(torch, model.dtype), **_exact_parts(model)},
            **own,
        )
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        if device.is_shortage(error):
            raise
        raise EngineError(f"the model `{alias}` cannot be loaded from `{model.path}`: {error}") from error
    if model.flow_shift is not None:
        pipeline.scheduler = shifted(pipeline.scheduler, model.flow_shift)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def place(pipeline: Any, offload: str) -> None:
    """Bring a pipeline to the device; offloading keeps only what computes there, which a CPU has no use for."""
    if device.name() == "cpu":
        return
    if offload == "none":
        pipeline.to(device.name())
    elif offload == "model":
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.enable_sequential_cpu_offload()


def find(alias: str, model: Model) -> Path:
    """The folder of a model's files, fetched from the hub where its row allows that."""
    folder = Path(model.path).expanduser()
    if folder.is_dir():
        return folder
    if not model.allow_download:
        raise EngineError(
            f"the model `{alias}` has no folder `{model.path}`; ids of the hub need `allow_download` in UNITASK_MODELS"
        )
    try:
        return Path(snapshot_download(model.path, allow_patterns=_FETCHED))
    except Exception as error:
        raise EngineError(
            f"the model `{alias}` cannot be fetched as `{model.path}`: {error}", retryable=True
        ) from error


def size_in_memory(pipeline: Any) -> int:
    """Bytes of all parameters and buffers of a pipeline."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


def shifted(scheduler: Any, shift: float) -> Any:
    """The same scheduler with another shift of its noise, under the name that its kind has for it."""
    name = "flow_shift" if "flow_shift" in scheduler.config else "shift"
    return type(scheduler).from_config(scheduler.config, **{name: shift})


def _check(alias: str, model: Model, folder: Path) -> set[str]:
    """Refuse what the table does not say, or could run code of its own; answer the names of the parts."""
    try:
        index = json.loads((folder / "model_index.json").read_text())
        found = index.pop("_class_name")
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(f"the model `{alias}` has no readable `model_index.json` in `{model.path}`") from error
    if found != model.pipeline:
        raise EngineError(f"the model `{alias}` is a {found}; UNITASK_MODELS says {model.pipeline}")
    parts = {name: value for name, value in index.items() if isinstance(value, list) and value[0] is not None}
    if foreign := [name for name, (library, _) in parts.items() if library not in _LIBRARIES]:
        raise EngineError(f"the model `{alias}` has parts of code of its own, which is never run: {', '.join(foreign)}")
    if pickles := sorted(path.name for path in folder.rglob("*") if path.suffix in _PICKLES):
        raise EngineError(
            f"the model `{alias}` has files that could run code, and only safetensors are loaded: {', '.join(pickles)}"
        )
    if model.sha256 is not None and (actual := weights.digest(folder)) != model.sha256:
        raise EngineError(f"the weights of the model `{alias}` have the digest {actual}; UNITASK_MODELS says another")
    return set(parts)


def _exact_parts(model: Model) -> dict[str, torch.dtype]:
    # Wan's decoder shows its rounding as flicker in anything less than single precision.
    return {"vae": torch.float32} if model.pipeline.startswith("Wan") else {}


def _processor(folder: Path) -> Any:
    from tasks_lib.engines.diffusers.processor import PictureProcessor

    return PictureProcessor(
        transformers.Qwen2VLImageProcessorPil.from_pretrained(folder / "processor"),
        transformers.AutoTokenizer.from_pretrained(folder / "tokenizer"),
    )
