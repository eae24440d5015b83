"""What a task costs, in credits: pure. The one place where a price is computed, and the one where it is rounded.

    (base * resolution + frame count * frames) * model

is the price of a unit, or of every second begun, rounded up to a millionth. It is frozen in the task's row at its
creation, with the number of units; whoever holds or captures later multiplies it with units or whole seconds, and
rounds nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator

UNIT = Decimal("0.000001")
LIMIT = Decimal(10) ** 8
"""What the ledger's columns cannot hold any more."""
FRAMES = ("frames", "num_frames", "total_frames")
"""The parameters that say how many frames are made; a type has one of them at the most."""

_SIZE = re.compile(r"(\d+)x(\d+)|(\d+)p|(\d+(?:\.\d+)?)x")

# A float only in JSON, whose numbers are read back by their shortest text: 0.1 stays 0.1.
_JsonNumber = PlainSerializer(float, when_used="json")
Factor = Annotated[Decimal, Field(gt=0), _JsonNumber]


class CostFactors(BaseModel):
    """What makes a task of a type dearer or cheaper than its base, as `task_types.cost_factors` has it in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    resolution: dict[str, Factor] = {}
    """By steps of one kind: `1024x1024` (by area), `720p`, or `4x` for enlargements. The smallest step that holds the
    size counts; what is larger than all of them costs as the largest."""

    frame_count: Annotated[Decimal, Field(ge=0, alias="frameCount"), _JsonNumber] = Decimal(0)
    """Credits that each frame adds to the base."""

    model_type: Annotated[dict[str, Factor], Field(alias="modelType")] = {}
    """By `model_name`; 1 for any other."""

    @model_validator(mode="after")
    def _steps_are_of_one_kind(self) -> Self:
        if len({_size(step)[0] for step in self.resolution}) > 1:
            raise ValueError("the steps of `resolution` must be of one kind: 1024x1024, 720p or 4x")
        return self

    def as_json(self) -> dict[str, Any]:
        """The row's value: what is not said is left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def unread(self, parameters: Collection[str]) -> list[str]:
        """The factors that no parameter of a type can move."""
        wanted = {
            "resolution": {_size(step)[1] for step in self.resolution},
            "frameCount": set(FRAMES) if self.frame_count else set(),
            "modelType": {"model_name"} if self.model_type else set(),
        }
        return [name for name, one_of in wanted.items() if one_of and not one_of & set(parameters)]

    def apply(self, base: Decimal, params: Mapping[str, Any]) -> Decimal:
        """The price for stored parameters, not rounded yet."""
        frames = next((params[name] for name in FRAMES if params.get(name) is not None), 0)
        model = self.model_type.get(str(params.get("model_name")), Decimal(1))
        return (base * self._of_size(params) + self.frame_count * frames) * model

    def _of_size(self, params: Mapping[str, Any]) -> Decimal:
        steps = sorted((_size(step)[2], factor) for step, factor in self.resolution.items())
        for parameter in {_size(step)[1] for step in self.resolution}:
            given = params.get(parameter)
            if given is not None:
                size = _size(f"{given}x" if parameter == "scale_factor" else given)[2]
                return next((factor for step, factor in steps if size <= step), steps[-1][1])
        return Decimal(1)


class Terms(BaseModel):
    """The price of a task type, as the columns of its row in `task_types`."""

    model_config = ConfigDict(frozen=True)

    billing_type: Literal["per_second", "per_unit"]
    base_cost_per_second: Annotated[Decimal, Field(ge=0)] | None
    unit_cost: Annotated[Decimal, Field(ge=0)] | None
    cost_factors: CostFactors

    @property
    def _base(self) -> Decimal:
        return (self.base_cost_per_second if self.billing_type == "per_second" else self.unit_cost) or Decimal(0)

    def price(self, params: Mapping[str, Any], seconds: float, units: int = 1) -> Price:
        """Return what a task with these stored parameters costs; `seconds` is the longest that each unit may take."""
        amount = self.cost_factors.apply(self._base, params).quantize(UNIT, ROUND_UP)
        if self.billing_type == "per_second":
            return Price(amount, amount * max(1, ceil(seconds * units)), "second", amount, units=units)
        return Price(amount * units, amount * units, "unit", amount, units=units)

    def describe(self, unit: str) -> str:
        """Return the price list's entry in words; `unit` is what a unit of the type is."""
        each = "second" if self.billing_type == "per_second" else unit
        factors = self.cost_factors.as_json()
        return f"{amount_text(self._base)} credits for each {each}" + (
            f", times {json.dumps(factors)}" if factors else ""
        )


@dataclass(frozen=True)
class Quote:
    """What a task will cost when it completes, in credits: from `low` to `high`, which is what it holds until then.

    The two are equal for what has a price for each unit. A time-priced task costs at least a second, and never more
    than `high`, however long it takes. Whatever fails or is cancelled costs nothing.
    """

    low: Decimal
    high: Decimal
    units: int = field(default=1, kw_only=True, compare=False)
    """The units of work that are paid for; those of a parent are its children's."""

    @classmethod
    def of(cls, price: Mapping[str, Any] | None) -> Quote:
        """The quote of a stored price; what was stored without one costs nothing."""
        price = price or {"low": 0, "high": 0}
        parts = [price, *price.get("children", {}).values()][bool(price.get("children")) :]
        return cls(Decimal(price["low"]), Decimal(price["high"]), units=sum(part.get("units", 1) for part in parts))

    @property
    def is_exact(self) -> bool:
        """Whether it is one amount and no range."""
        return self.low == self.high

    def __str__(self) -> str:
        return amount_text(self.low) if self.is_exact else f"{amount_text(self.low)} to {amount_text(self.high)}"

    @property
    def in_words(self) -> str:
        """The amount with its unit and, if there are several, the units of work that it is for."""
        return f"{self} credits" + (f" for {self.units} units of work" if self.units > 1 else "")


@dataclass(frozen=True)
class Price(Quote):
    """The price of one task, as it is frozen: `amount` for each unit, or for each second begun."""

    per: Literal["unit", "second"]
    amount: Decimal

    def as_json(self) -> dict[str, Any]:
        """The row's value; see cost_of.sql."""
        amounts = {"amount": str(self.amount), "low": str(self.low), "high": str(self.high)}
        return {"per": self.per, **({"units": self.units} if self.units > 1 else {}), **amounts}


def family_price(children: Mapping[str, Price]) -> dict[str, Any]:
    """The frozen price of a parent: that of each child by its key, and their sum."""
    return {
        "low": str(sum((price.low for price in children.values()), Decimal(0))),
        "high": str(sum((price.high for price in children.values()), Decimal(0))),
        "children": {key: price.as_json() for key, price in children.items()},
    }


def _size(text: str) -> tuple[str, str, Decimal]:
    """The kind of a size, the parameter that it is compared with, and its magnitude."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise ValueError(f"`{text}` is no size; write 1024x1024, 720p or 4x")
    width, height, lines, times = found.groups()
    if width:
        return "area", "resolution", Decimal(width) * Decimal(height)
    return ("height", "resolution", Decimal(lines)) if lines else ("times", "scale_factor", Decimal(times))


def amount_text(amount: Decimal) -> str:
    """An amount for people: without needless zeros."""
    return f"{amount.normalize():f}"
