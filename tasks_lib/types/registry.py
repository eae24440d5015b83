"""All task types: every module of this package that declares a `TASK_TYPE`, and the table rows derived from them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import insert

import tasks_lib.types
from db import tables
from tasks_lib.billing import terms
from tasks_lib.errors import DatabaseError, TaskValidationError
from tasks_lib.params.base import nearest
from tasks_lib.serving import pool
from tasks_lib.settings import get_settings
from tasks_lib.types.base import TaskType

COLUMNS = (
    "name",
    "run_type",
    "category",
    "display_name",
    "description",
    "base_cost_per_second",
    "cost_factors",
    "is_active",
    "billing_type",
    "unit_cost",
    "tool_type",
    "content_type",
    "max_attempts",
    "deadline_seconds",
)


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


def sync(engine: Engine) -> None:
    """Write the declared types into `task_types`; rows of types that are gone become inactive.

    A price that the owner has changed in its row stays.
    """
    rows = [_row(declared) for declared in task_types().values()]
    t = tables.task_types
    statement = insert(t).values(rows)
    updated: dict[str, Any] = {column: statement.excluded[column] for column in COLUMNS if column != "name"}
    updated |= {c: sa.case((t.c.own_price, t.c[c]), else_=statement.excluded[c]) for c in terms.COLUMNS}
    with engine.begin() as connection:
        connection.execute(sa.text("SET LOCAL unitask.syncing = 'on'"))
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=updated))
        connection.execute(sa.update(t).where(t.c.name.not_in(list(task_types()))).values(is_active=False))


def check(engine: Engine) -> None:
    """Raise `DatabaseError` that names every difference between the declared types and the rows of `task_types`.

    Workers call it before they claim: a row that says another pool than the code would be obeyed. A price that the
    owner has changed in its row is no difference, if its factors can be read from the type's parameters.
    """
    t = tables.task_types
    with engine.connect() as connection:
        columns = (*(t.c[c] for c in COLUMNS), t.c.own_price)
        rows = {row["name"]: dict(row) for row in connection.execute(sa.select(*columns)).mappings()}
    problems = [f"`{name}` has no row" for name in task_types() if name not in rows]
    problems += [
        f"`{name}` has an active row and no module"
        for name in rows
        if rows[name]["is_active"] and name not in task_types()
    ]
    for name, declared in task_types().items():
        if (row := rows.get(name)) is None:
            continue
        declares = {c: value for c, value in _row(declared).items() if not (row["own_price"] and c in terms.COLUMNS)}
        problems += [f"`{name}`: the row says another `{c}`" for c, value in declares.items() if row[c] != value]
        problems += [f"`{name}`: {problem}" for problem in terms.problems(row, declared.params)]
    if problems:
        raise DatabaseError(f"task types and their table disagree; run `unitask deploy`: {'; '.join(problems)}")


def _row(declared: TaskType[Any]) -> dict[str, Any]:
    return {column: getattr(declared, column) for column in COLUMNS} | {
        "run_type": pool(declared, get_settings()),
        "cost_factors": declared.cost_factors.as_json(),
    }
