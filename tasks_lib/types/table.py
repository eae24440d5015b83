"""The table `task_types`: what an owner says about the types, and what keeps tasks of a type from being made.

The code's values are the first ones. What somebody changes in a row counts from then on, and one row that is wrong
stops its own tasks only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from db import tables
from tasks_lib import database
from tasks_lib.billing import terms
from tasks_lib.billing.cost import Terms, amount_text
from tasks_lib.errors import DatabaseError, TaskValidationError
from tasks_lib.serving import pool, pool_problem
from tasks_lib.settings import get_settings
from tasks_lib.types import registry
from tasks_lib.types.base import TaskType

# A row that was written by hand before its module: what it says beyond these is its owner's own.
_UNSAID: dict[str, Any] = {
    "run_type": "gpu",
    "description": None,
    "is_active": True,
    "tool_type": None,
    "content_type": None,
    "max_attempts": 3,
    "deadline_seconds": 3600,
    "billing_type": "per_second",
    "base_cost_per_second": None,
    "unit_cost": None,
    "cost_factors": {},
}


@dataclass(frozen=True)
class TypeRow:
    """A row of `task_types`. `declared` is what the code said when the row was last written from it, by column."""

    name: str
    run_type: str
    category: str
    display_name: str
    description: str | None
    is_active: bool | None
    tool_type: str | None
    content_type: str | None
    max_attempts: int
    deadline_seconds: int
    billing_type: str
    base_cost_per_second: Decimal | None
    unit_cost: Decimal | None
    cost_factors: Any
    declared: dict[str, Any] | None

    @property
    def is_off(self) -> bool:
        """Whether requests for it are refused; tasks that exist go on."""
        return self.is_active is False

    @property
    def is_retired(self) -> bool:
        """Whether it is that of a type whose code is gone, switched off by `sync`."""
        return self.declared is not None and self.is_off and self.name not in registry.task_types()

    @property
    def own(self) -> set[str]:
        """The columns that say something else than the code did: their owner's own. Of a price, all or none."""
        said = _UNSAID if self.declared is None else self.declared
        values = _as_json({column: getattr(self, column) for column in COLUMNS})
        own = {column for column, value in values.items() if column not in said or said[column] != value}
        return own | set(terms.COLUMNS) if own & set(terms.COLUMNS) else own

    def terms(self) -> Terms:
        """Return the price. Raises `TaskValidationError` for a row that holds none."""
        return terms.terms_of(asdict(self))


COLUMNS = tuple(field.name for field in fields(TypeRow) if field.name not in ("name", "declared"))


def load(connection: Connection, *, lock: bool = False) -> dict[str, TypeRow]:
    """Return all rows by name; with `lock`, for the caller to change."""
    statement = sa.select(*(tables.task_types.c[field.name] for field in fields(TypeRow)))
    statement = statement.with_for_update() if lock else statement
    return {row["name"]: TypeRow(**row) for row in connection.execute(statement.order_by("name")).mappings()}


def load_rows() -> dict[str, TypeRow]:
    """Return all rows by name, in a transaction of their own."""
    with database.transaction() as connection:
        return load(connection)


def sync(engine: Engine) -> None:
    """Write what the code declares into `task_types`, except over what somebody has changed there.

    A type whose code is gone is switched off, unless somebody has set `is_active` or wrote its row by hand.
    """
    t = tables.task_types
    with engine.begin() as connection:
        # Two that write a first row at once would both insert it.
        connection.execute(sa.text("SELECT unitask.lock_guard('task_types')"))
        rows = load(connection, lock=True)
        for name, declared in registry.task_types().items():
            values = _declared(declared)
            known = {"declared": _as_json(values)}
            if (row := rows.get(name)) is None:
                connection.execute(sa.insert(t).values(name=name, **values, **known))
            else:
                ours = {column: value for column, value in values.items() if column not in row.own}
                connection.execute(sa.update(t).where(t.c.name == name).values(**ours, **known))
        for name in rows.keys() - registry.task_types().keys():
            row = rows[name]
            if row.declared is not None and "is_active" not in row.own:
                gone = {**row.declared, "is_active": False}
                connection.execute(sa.update(t).where(t.c.name == name).values(is_active=False, declared=gone))


def usable(declared: TaskType[Any], rows: Mapping[str, TypeRow]) -> TypeRow:
    """Return the row of a type of which a task is asked for. Raises `TaskValidationError` with what is in the way."""
    row = rows.get(declared.name)
    if problem := _problem(declared, row):
        raise TaskValidationError(problem, "task_type")
    assert row is not None
    return row


def find_type(name: str) -> TaskType[Any]:
    """Return the type of that name. Raises `TaskValidationError`: for a row without code, with what is missing."""
    if name not in registry.task_types():
        with suppress(DatabaseError):
            if row := load_rows().get(name):
                raise TaskValidationError(without_code(row), "task_type")
    return registry.get_task_type(name)


def findings(connection: Connection) -> Iterator[tuple[Literal["note", "wrong"], str]]:
    """Yield what an operator should know of the types and their rows; `wrong` is what keeps tasks from being made."""
    rows, known = load(connection), registry.task_types()
    waiting = _waiting(connection)
    for name in sorted({*rows, *known, *waiting}):
        row, declared = rows.get(name), known.get(name)
        if declared is not None:
            if problem := _problem(declared, row):
                yield "note" if row and row.is_off else "wrong", problem
            if row is not None:
                yield from (
                    ("note", f"`{name}`: {text}") for text in terms.unread_factors(asdict(row), declared.params)
                )
            continue
        text = without_code(row) if row else f"there is no task type `{name}`: it has neither a row nor code here"
        if name in waiting:
            yield "wrong", f"{text}; {waiting[name]} of its tasks wait"
        elif row and not row.is_retired:
            yield "note", text


def _problem(declared: TaskType[Any], row: TypeRow | None) -> str | None:
    """Why no task of a type can be made now."""
    name = declared.name
    if row is None:
        return f"the task type `{name}` has no row in `task_types`: `unitask deploy` writes it"
    if row.is_off:
        return f"`{name}` is switched off: `is_active` is false in its row of `task_types`"
    if row.deadline_seconds < 1:
        return f"`{name}` would end at once: `deadline_seconds` is {row.deadline_seconds} in its row of `task_types`"
    try:
        row.terms()
    except TaskValidationError as error:
        return str(error)
    wrong_pool = pool_problem(declared, row.run_type, get_settings())
    return (
        wrong_pool and f"`{name}` cannot run: its row of `task_types` sends it to the pool {row.run_type}, {wrong_pool}"
    )


def without_code(row: TypeRow) -> str:
    """Return what is missing for a type that has a row and no module here."""
    module = re.sub(r"\W", "_", row.name)
    return (
        f"the task type `{row.name}` has a row and no code here: write tasks_lib/types/{module}.py and start the"
        " workers again, see docs/adding-a-task-type.md"
    )


def price_in_words(declared: TaskType[Any] | None, row: TypeRow | None) -> str:
    """Return what a task of a type costs, from its row, or its module where there is none."""
    if declared is not None and declared.plan is not None:
        return "what its children cost; `unitask create --quote` says how much"
    values = asdict(row) if row else {}
    if declared is not None and row is None:
        values = {"name": declared.name, **_declared(declared)}
    try:
        return terms.terms_of(values).describe(declared.unit if declared else "task")
    except TaskValidationError as error:
        return f"nothing that can be read: {error}"


def _waiting(connection: Connection) -> dict[str, int]:
    """How many tasks wait of each type that has no code here."""
    t = tables.tasks
    counted = (
        sa.select(t.c.task_type, sa.func.count())
        .where(t.c.status == "Pending", t.c.deps_pending == 0, t.c.task_type.not_in(list(registry.task_types())))
        .group_by(t.c.task_type)
    )
    return {name: count for name, count in connection.execute(counted)}


def _declared(declared: TaskType[Any]) -> dict[str, Any]:
    return {column: getattr(declared, column) for column in COLUMNS} | {
        "run_type": pool(declared, get_settings()),
        "cost_factors": declared.cost_factors.as_json(),
    }


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: amount_text(value) if isinstance(value, Decimal) else value for name, value in values.items()}
