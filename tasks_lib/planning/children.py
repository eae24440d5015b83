"""What an orchestrator plants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Child:
    """One child task; `after` names the children, by key, that it waits for.

    `sources` are the fields of the orchestrator's request that its parameters come from, where the names differ.
    """

    key: str
    task_type: str
    params: dict[str, Any]
    after: Sequence[str] = ()
    placement: dict[str, Any] | None = None
    model: str | None = None
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
