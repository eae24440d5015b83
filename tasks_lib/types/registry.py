"""All task types: every module of this package that declares a `TASK_TYPE`. Their rows are table.py's."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

import tasks_lib.types
from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import nearest
from tasks_lib.types.base import TaskType


@cache
def task_types() -> dict[str, TaskType[Any]]:
    """Every declared type by its name."""
    found: dict[str, TaskType[Any]] = {}
    for module in pkgutil.iter_modules(tasks_lib.types.__path__):
        declared = getattr(importlib.import_module(f"tasks_lib.types.{module.name}"), "TASK_TYPE", None)
        if declared is not None:
            assert declared.name not in found, f"two modules declare the task type `{declared.name}`"
            found[declared.name] = declared
    return found


def get_task_type(name: str) -> TaskType[Any]:
    """The type of that name. Raises `TaskValidationError` with the nearest known name."""
    known = task_types()
    if name in known:
        return known[name]
    near = nearest(str(name), [*known])
    hint = f"; did you mean `{near}`?" if near else f"; known are {', '.join(sorted(known))}"
    raise TaskValidationError(f"there is no task type `{name}`{hint}", "task_type")
