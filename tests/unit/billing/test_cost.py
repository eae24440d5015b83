"""Prices: factors, rounding, ranges."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks_lib.billing.cost import UNIT, CostFactors, Price, Quote, Terms, family_price
from tasks_lib.types.registry import task_types

SIZES = {"512x512": 1, "1024x1024": 3, "2048x2048": 8}
AMOUNTS = st.decimals(min_value=0, max_value=1_000, places=6)


def terms(**given: Any) -> Terms:
    values: dict[str, Any] = {
        "billing_type": "per_unit",
        "base_cost_per_second": None,
        "unit_cost": None,
        "cost_factors": {},
    }
    return Terms.model_validate({**values, **given})


@pytest.mark.parametrize(
    ("resolution", "factor"),
    [("512x512", 1), ("256x512", 1), ("902x508", 3), ("1024x1024", 3), ("1026x1024", 8), ("4096x4096", 8)],
)
def test_smallest_step_that_holds_the_size_counts_when_sizes_are_priced(resolution: str, factor: int) -> None:
    priced = terms(unit_cost="0.025", cost_factors={"resolution": SIZES})
    assert priced.price({"resolution": resolution}, 1).amount == Decimal("0.025") * factor


@pytest.mark.parametrize(("scale", "factor"), [(1.0, 1), (2.0, 1), (2.5, 2), (4, 2), (8.0, 4)])
def test_enlargements_cost_by_their_factor_when_steps_say_so(scale: float, factor: int) -> None:
    priced = terms(unit_cost="0.02", cost_factors={"resolution": {"2x": 1, "4x": 2, "8x": 4}})
    assert priced.price({"scale_factor": scale}, 1).amount == Decimal("0.02") * factor


def test_frames_are_added_and_the_model_multiplies_when_a_type_is_priced_by_them() -> None:
    factors = {"resolution": {"480p": 1, "720p": 2}, "frameCount": 0.001, "modelType": {"pro": 1.5}}
    priced = terms(unit_cost="0.2", cost_factors=factors)
    params = {"resolution": "720p", "num_frames": 49, "model_name": "pro"}
    assert priced.price(params, 1).amount == (Decimal("0.2") * 2 + Decimal("0.049")) * Decimal("1.5")
    assert priced.price({**params, "model_name": "other"}, 1).amount == Decimal("0.449")
    assert priced.price({}, 1).amount == Decimal("0.2")


def test_price_is_rounded_up_once_when_factors_make_it_long() -> None:
    priced = terms(
        billing_type="per_second", base_cost_per_second="0.0278", cost_factors={"modelType": {"m": "0.33333"}}
    )
    price = priced.price({"model_name": "m"}, 34.2)
    assert price.amount == Decimal("0.009267")
    assert (price.low, price.high) == (price.amount, price.amount * 35)


@given(AMOUNTS, st.floats(min_value=0, max_value=100_000), st.decimals(min_value="0.01", max_value=100, places=3))
def test_range_is_of_whole_seconds_when_work_is_priced_by_time(rate: Decimal, seconds: float, factor: Decimal) -> None:
    factors = CostFactors(model_type={"m": factor})
    timed = Terms(billing_type="per_second", base_cost_per_second=rate, unit_cost=None, cost_factors=factors)
    price = timed.price({"model_name": "m"}, seconds)
    assert 0 <= price.amount - rate * factor < UNIT
    assert price.low == price.amount <= price.high
    assert price.high >= price.amount * Decimal(seconds)
    assert Quote.of(price.as_json()) == Quote(price.low, price.high)


@given(st.lists(AMOUNTS, min_size=1, max_size=9))
def test_family_costs_what_its_children_cost_when_they_are_added(amounts: list[Decimal]) -> None:
    prices = {str(i): Price(amount, amount * 3, "second", amount) for i, amount in enumerate(amounts)}
    assert Quote.of(family_price(prices)) == Quote(sum(amounts, Decimal(0)), 3 * sum(amounts, Decimal(0)))


@pytest.mark.parametrize(
    "factors",
    [
        {"resolution": {"512x512": 1, "2x": 2}},
        {"resolution": {"large": 1}},
        {"resolution": {"512x512": 0}},
        {"modelType": {"m": -1}},
        {"frameCount": -1},
        {"colour": 2},
    ],
)
def test_factors_are_refused_when_they_mean_nothing(factors: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CostFactors.model_validate(factors)


def test_declared_factors_survive_json_and_can_be_read_when_types_declare_them() -> None:
    for name, declared in task_types().items():
        factors = declared.cost_factors
        assert CostFactors.model_validate(factors.as_json()) == factors, name
        assert factors.unread(declared.params.model_fields) == [], name


def test_factor_is_named_when_no_parameter_moves_it() -> None:
    factors = CostFactors.model_validate({"resolution": {"2x": 2}, "frameCount": 1, "modelType": {"m": 2}})
    assert factors.unread({"prompt", "model_name"}) == ["resolution", "frameCount"]


def test_quote_is_one_amount_or_a_range_when_it_is_shown() -> None:
    assert str(Quote(Decimal("0.025000"), Decimal("0.025"))) == "0.025"
    assert str(Quote(Decimal("0.0278"), Decimal("10.000000"))) == "0.0278 to 10"
