"""What the simulated provider writes down: its jobs, and the orders to misbehave."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

Call = Literal["submit", "status", "answer", "file", "cancel", "list", "webhook"]
Fault = Literal[
    "429",
    "500",
    "401",
    "slow_headers",
    "slow_body",
    "cut",
    "cut_before",
    "html",
    "gone",
    "lost",
    "never",
    "failed",
    "twice",
    "out_of_order",
]


@dataclass
class SimJob:
    """One job as the provider's books have it."""

    id: str
    dialect: str
    model: str
    input: dict[str, Any]
    key: str
    account: str
    """The beginning of the SHA-256 of the `Authorization` that it was submitted with."""
    webhook: str | None
    created: float
    ends: float
    cancelled: bool = False
    failed: bool = False
    looks: int = 0

    @property
    def running(self) -> bool:
        """Whether it is being worked on, and so paid for."""
        return not self.cancelled and time.time() < self.ends


@dataclass
class Order:
    """To misbehave in one way at the next `times` calls of a kind; see `Simulator.fault`."""

    call: Call
    kind: Fault
    times: int
    seconds: float | None
    prompt: str | None
