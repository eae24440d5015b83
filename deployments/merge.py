"""What a registration may change: field by field, between what it wrote last, what the server has, and what it wants.

A field that differs from what was written last was set by a person, and stays; all others follow the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Fields = Mapping[str, Any]
"""Fields of one object by name; members of a mapping or a set have names of their own, `parameters.steps`."""

SHOWN = 80
ABSENT: Any = None
"""A field that is not set; Prefect says null for it."""


@dataclass(frozen=True)
class Change:
    """One thing that a registration does, or (`kept`) leaves because a person set it."""

    kind: Literal["added", "changed", "removed", "kept"]
    name: str
    field: str | None = None
    theirs: Any = None
    ours: Any = None

    def __str__(self) -> str:
        """In one line."""
        if self.field is None:
            return f"{self.kind}: {self.name}"
        if self.kind == "kept":
            return f"kept: {self.name}: {self.field} is {_short(self.theirs)}, prefect.yaml has {_short(self.ours)}"
        return f"{self.kind}: {self.name}: {self.field} from {_short(self.theirs)} to {_short(self.ours)}"


def _short(value: Any) -> str:
    text = "nothing" if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


@dataclass
class Merge:
    """What to write, and what that changes or keeps."""

    updates: dict[str, Any] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)


def merge(name: str, ours: Fields, theirs: Fields, last: Mapping[str, Fields]) -> Merge:
    """Return what makes `theirs` follow `ours`; `last` has for each field what was `said` and what was `there` then.

    Without a memory of a field, as for objects that an older version made, one that is set counts as a person's.
    """
    merged = Merge()
    for key in [*ours, *(key for key in last if key not in ours)]:
        our, their, before = ours.get(key, ABSENT), theirs.get(key, ABSENT), last.get(key)
        touched = their is not ABSENT if before is None else their != before.get("there", ABSENT)
        if agree(their, our):
            if before is not None and touched and their != our:
                merged.kept.add(key)  # in what we leave open
        elif touched:
            merged.kept.add(key)
            merged.changes.append(Change("kept", name, key, their, our))
        elif before is None or our != before.get("said", ABSENT):
            merged.updates[key] = our
            merged.changes.append(Change("changed", name, key, their, our))
    return merged


def agree(theirs: Any, ours: Any) -> bool:
    """Return whether the server has what we say; it adds to mappings what we leave open, such as an anchor date."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return all(agree(theirs.get(key), value) for key, value in ours.items())
    return bool(theirs == ours)


def remember(merged: Merge, ours: Fields, theirs: Fields, last: Mapping[str, Fields]) -> dict[str, Fields]:
    """Return the memory for the next time; of what a person set, what was remembered before."""
    said = {key: {"said": our, "there": theirs.get(key, ABSENT)} for key, our in ours.items() if key not in merged.kept}
    return said | {key: dict(last[key]) for key in merged.kept if key in last}


def flat(group: str, values: Any) -> dict[str, Any]:
    """Return a mapping's, or a list's, members as fields."""
    members = values if isinstance(values, Mapping) else dict.fromkeys(values or (), True)
    return {f"{group}.{key}": value for key, value in members.items()}


def grouped(group: str, fields: Fields) -> dict[str, Any]:
    """Return the members of a group again."""
    return {
        key.removeprefix(f"{group}."): value
        for key, value in fields.items()
        if key.startswith(f"{group}.") and value is not ABSENT
    }
