"""What a prepared task stands for, and what is frozen as its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks_lib.billing.cost import LIMIT, Price, Terms, family_price
from tasks_lib.errors import TaskValidationError
from tasks_lib.planning.children import Child
from tasks_lib.types.base import TaskType
from tasks_lib.types.registry import get_task_type


def leaves_of(
    declared: TaskType[Any], params: dict[str, Any], placement: dict[str, Any] | None, model: str | None = None
) -> list[Child]:
    """The work that a task stands for, from its stored values: itself, or its children."""
    if declared.plan is None:
        return [Child("", declared.name, params, model=model)]
    return declared.plan(params, placement)


def price_of(declared: TaskType[Any], leaves: Sequence[Child], terms: Mapping[str, Terms]) -> dict[str, Any]:
    """The `price` of a row: a task's own, or for a parent that of each child, at the children's own terms."""
    prices = {leaf.key: _price(get_task_type(leaf.task_type), leaf.params, terms[leaf.task_type]) for leaf in leaves}
    return family_price(prices) if declared.plan else prices[leaves[0].key].as_json()


def _price(declared: TaskType[Any], params: dict[str, Any], terms: Terms) -> Price:
    price = terms.price(params, declared.estimate_seconds(params), declared.units(params))
    if price.high >= LIMIT:
        raise TaskValidationError(f"`{declared.name}` costs {price} credits, which nobody can have", "task_type")
    return price
