"""What stays loaded between tasks: the models of this process, the one longest unused making room for the next."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Warm:
    """A loaded pipeline, the bytes of its weights (`in_ram`: in this process's own memory), and their digest."""

    pipeline: Any
    bytes: int
    digest: str
    offload: str
    in_ram: bool


class WarmCache:
    """Models by alias. One task at a time uses it, so nothing is evicted under somebody's hands."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Warm] = OrderedDict()
        self.loads = 0
        """How often a model was loaded since the process began."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """What is loaded, the one longest unused first."""
        return tuple(self._held)

    @property
    def bytes_in_ram(self) -> int:
        """How much of this process's memory the loaded models explain."""
        return sum(warm.bytes for warm in self._held.values() if warm.in_ram)

    def get(self, alias: str, needs: int, budget: int, load: Callable[[], Warm]) -> Warm:
        """The model of that name, loaded if it is not there.

        Before it is loaded, others make room: what is held and the `needs` bytes of the new one fit into `budget`, or
        nothing else is held. Afterwards the measured size counts.
        """
        if alias in self._held:
            self._held.move_to_end(alias)
            return self._held[alias]
        self._make_room(budget - needs)
        self._held[alias] = load()
        self.loads += 1
        self._make_room(budget, keep=alias)
        return self._held[alias]

    def clear(self) -> None:
        """Let go of everything."""
        self._make_room(-1)

    def _make_room(self, budget: int, keep: str | None = None) -> None:
        gone = False
        while self._held and sum(warm.bytes for warm in self._held.values()) > budget:
            alias = next(iter(self._held))
            if alias == keep:
                break
            logger.info("the model `%s` is let go of, %d MiB", alias, self._held[alias].bytes >> 20)
            del self._held[alias]
            gone = True
        if gone:
            release_memory()


def release_memory() -> None:
    """Give freed memory back to the system and the device: Python and torch both keep it otherwise."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@cache
def warm_models() -> WarmCache:
    """The cache of this process."""
    return WarmCache()
