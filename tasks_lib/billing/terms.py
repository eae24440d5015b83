"""The price list: what the rows of `task_types` say now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError

from db import tables
from tasks_lib import database
from tasks_lib.billing.cost import Terms
from tasks_lib.errors import DatabaseError

COLUMNS = tuple(Terms.model_fields)
"""The columns of `task_types` that belong to the owner; see docs/decisions/0013-prices-are-frozen.md."""


def load_terms(names: Collection[str]) -> dict[str, Terms]:
    """The prices of some task types, by their names. Raises `DatabaseError` for a row that is no price."""
    t = tables.task_types
    statement = sa.select(t.c.name, *(t.c[column] for column in COLUMNS)).where(t.c.name.in_(names))
    with database.transaction() as connection:
        rows = connection.execute(statement).mappings().all()
    return {row["name"]: _terms(dict(row)) for row in rows}


def problems(row: Mapping[str, Any], params: type[BaseModel]) -> list[str]:
    """What is wrong with the price in a row of `task_types`, for a type with such parameters."""
    try:
        unread = _terms(row).cost_factors.unread(params.model_fields)
    except DatabaseError as error:
        return [str(error)]
    return [f"its price depends on `{factor}`, which its parameters do not say" for factor in unread]


def _terms(row: Mapping[str, Any]) -> Terms:
    try:
        return Terms.model_validate({**row, "cost_factors": row["cost_factors"] or {}})
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"]))
        raise DatabaseError(f"`{row['name']}` has no valid price in `task_types`: `{field}`: {detail['msg']}") from None
