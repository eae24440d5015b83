"""What engines in torch know of the device that they compute on, and of its memory."""

from __future__ import annotations

import psutil
import torch

from tasks_lib.settings import Settings

# What the CPU's allocator, the GPU's driver, and cuBLAS or cuDNN say.
_SHORT = ("can't allocate memory", "out of memory", "ALLOC_FAILED")


def name() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def budget(settings: Settings) -> int:
    """How many bytes the models of one engine process may take together."""
    whole = settings.model_bytes
    if whole is None and torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(0).total_memory * 3 // 4
    return (whole or psutil.virtual_memory().total // 2) // settings.gpu_slots


def is_shortage(error: BaseException) -> bool:
    """Whether memory was short: in Python, on the GPU, or in a library beside them that has no exception for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SHORT)
