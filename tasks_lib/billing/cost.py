"""What a task may cost, in credits: pure."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import Any, Protocol

UNIT = Decimal("0.000001")


class Priced(Protocol):
    """The part of a task type that prices it."""

    @property
    def billing_type(self) -> str: ...
    @property
    def base_cost_per_second(self) -> Decimal: ...
    @property
    def unit_cost(self) -> Decimal | None: ...


def hold_for(priced: Priced, seconds: float) -> Decimal:
    """The most that one execution may cost: its unit price, or its rate for the seconds that it may take.

    Rounded up to a millionth once, here; the capture never takes more.
    """
    amount: Any = priced.unit_cost or Decimal(0)
    if priced.billing_type == "per_second":
        amount = priced.base_cost_per_second * Decimal(seconds)
    return Decimal(amount).quantize(UNIT, ROUND_UP)
