"""What an orchestrator plants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Child:
    """One child task; `after` names the children, by key, that it waits for."""

    key: str
    task_type: str
    params: dict[str, Any]
    after: Sequence[str] = ()
    placement: dict[str, Any] | None = None
    model: str | None = None
