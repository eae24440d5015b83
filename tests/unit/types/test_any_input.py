"""Whatever is sent: it becomes a model that JSON keeps unchanged, or `TaskValidationError` names the field.

`UNITASK_TEST_EXAMPLES` is the number of inputs over all types: 2,000 by default, 20,000 in `make test-long`.
"""

from __future__ import annotations

import copy
import json
import os
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import ParamGroup
from tasks_lib.types.registry import task_types

GOLDEN = Path(__file__).parents[2] / "integration" / "types" / "golden"
TYPES = sorted(task_types())
EXAMPLES = ceil(int(os.environ.get("UNITASK_TEST_EXAMPLES", "2000")) / len(TYPES))

TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=8),
    st.sampled_from(["", " ", "\0", "\ud800", "0x0", "768x432", "https://a.b/c", "unitask://../x", "1" * 20_000]),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.uuids(), st.binary(max_size=4))
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


def valid_requests() -> dict[str, dict[str, Any]]:
    """A full request of every type: the golden ones as they are stored, and those of the children planned from them."""
    found: dict[str, dict[str, Any]] = {}
    for path in GOLDEN.glob("*.json"):
        golden = json.loads(path.read_text())
        declared = task_types()[path.stem]
        known = declared.params.model_fields
        found[path.stem] = {key: value for key, value in golden["request"].items() if key in known}
        if declared.plan is not None:
            row = golden["rows"][0]
            found |= {child.task_type: child.params for child in declared.plan(row["params"], row["placement"])}
    return found


VALID = valid_requests()


def places(value: Any, path: tuple[int | str, ...] = ()) -> list[tuple[int | str, ...]]:
    """The path of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((*path, key), *places(item, (*path, key)))]


@st.composite
def spoiled(draw: st.DrawFn, valid: dict[str, Any], names: list[str]) -> Any:
    """A valid request with up to four things in it replaced, removed or added."""
    request = copy.deepcopy(valid)
    for _ in range(draw(st.integers(0, 4))):
        at: Any = request
        *way, last = draw(st.sampled_from([*places(request), *((name,) for name in names), ("unknown",)]))
        for key in way:
            at = at[key]
        if draw(st.booleans()) or not isinstance(at, dict):
            at[last] = draw(JUNK)
        else:
            at.pop(last, None)
    return request


def check(model: type[ParamGroup], request: Any) -> None:
    try:
        parsed = model.parse(request)
    except TaskValidationError as refusal:
        if not refusal.field:
            pytest.fail(f"no field is named: {refusal}")
        return
    text = json.dumps(parsed.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
    assert "\0" not in text
    assert "\\u0000" not in text
    assert model.parse(json.loads(text.encode())) == parsed


@pytest.mark.parametrize("name", TYPES)
def test_input_is_a_model_or_a_refused_field_when_it_is_anything(name: str) -> None:
    model = task_types()[name].params
    model.parse(VALID[name])

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(spoiled(VALID[name], sorted(model.model_fields)), JUNK))
    def run(request: Any) -> None:
        check(model, request)

    run()
