"""The price list: what a row of `task_types` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks_lib.billing.cost import Terms
from tasks_lib.errors import TaskValidationError

COLUMNS = tuple(Terms.model_fields)
"""The columns of `task_types` that make a price; see docs/decisions/0013-prices-are-frozen.md."""


def terms_of(row: Mapping[str, Any]) -> Terms:
    """Return the price in a row of `task_types`. Raises `TaskValidationError` for one that cannot be read."""
    try:
        return Terms.model_validate({**row, "cost_factors": row["cost_factors"] or {}})
    except ValidationError as error:
        detail = error.errors()[0]
        field = ".".join(map(str, detail["loc"]))
        text = f"`{row['name']}` has no price: `{field}` in its row of `task_types`: {detail['msg']}"
        raise TaskValidationError(text, "task_type") from None


def unread_factors(row: Mapping[str, Any], params: type[BaseModel]) -> list[str]:
    """Return a sentence for each factor of a price that can be read and that no such parameter can move."""
    try:
        unread = terms_of(row).cost_factors.unread(params.model_fields)
    except TaskValidationError:
        return []
    return [f"its price depends on `{factor}`, which its parameters do not say" for factor in unread]
