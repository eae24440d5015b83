"""Lists with one entry for each segment, joint or image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tasks_lib.errors import TaskValidationError

T = TypeVar("T")


MAX_COUNT = 100_000


def expand_array_to_count(array: Sequence[T] | None, count: int, field: str = "array") -> list[T]:
    """A list of `count` entries: one entry is repeated, none stays none.

    Any other length raises `TaskValidationError`, so that no segment finds its value missing.
    """
    if array is None:
        return []
    if not isinstance(array, list | tuple):
        raise TaskValidationError(f"`{field}` must be a list, not {type(array).__name__}", field)
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise TaskValidationError(f"`count` must be a whole number from 0 to {MAX_COUNT}", "count")
    if len(array) == 1:
        return [*array] * count
    if len(array) not in (0, count):
        raise TaskValidationError(f"`{field}` has {len(array)} entries; one or exactly {count} are needed", field)
    return list(array)
