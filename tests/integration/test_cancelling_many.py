"""What a cancel or a failure costs grows with the number of tasks that it ends, whatever their shape; and no faster."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tasks_lib import cancel_batch, cancel_task, database
from tasks_lib.errors import EngineError
from tasks_lib.queue import fail
from tests.conftest import Owner
from tests.races.sessions import check_ledger, claim, parent_row, statuses

SMALL, LARGE = (1_000, 6_000) if "UNITASK_TEST_LONG" in os.environ else (200, 1_200)
BATCH = "5e8f8a44-31e8-44ba-9d7c-9a3d1f2c0b12"


def make(owner: Owner, count: int, waits_for: Callable[[int], list[int]], **more: Any) -> list[UUID]:
    """Tasks of which each waits for those that `waits_for` names by their places."""
    base = {"task_type": "travel_segment", "project_id": str(owner.project_id), "hold": "0.01", **more}
    rows = [{**base, "depends_on": [{"index": place} for place in waits_for(i)]} for i in range(count)]
    return [answer["task_id"] for answer in database.call("create_tasks", p_rows=json.dumps(rows))]


def chain(i: int) -> list[int]:
    return [i - 1] if i else []


def fan_out(i: int) -> list[int]:
    return [0] if i else []


def layers(i: int) -> list[int]:
    """Ten wide; each waits for two of the layer before."""
    return [i - 10, i - i % 10 - 10] if i >= 10 and i % 10 else [i - 10] if i >= 10 else []


def cancel_first(owner: Owner, count: int, shape: Callable[[int], list[int]]) -> float:
    ids = make(owner, count, shape)
    began = time.monotonic()
    cancel_task(ids[0])
    took = time.monotonic() - began
    assert statuses(ids)[0] == "Cancelled"
    if shape is not layers:
        assert set(statuses(ids[1:])) == {"Failed"}
    return took


def fail_first(owner: Owner, count: int, shape: Callable[[int], list[int]]) -> float:
    ids = make(owner, count, shape)
    (held,) = claim(limit=1, task_id=ids[0])
    began = time.monotonic()
    fail(held.lease, EngineError("no"))
    took = time.monotonic() - began
    if shape is not layers:
        assert set(statuses(ids)) == {"Failed"}
    return took


def cancel_whole_batch(owner: Owner, count: int, shape: Callable[[int], list[int]]) -> float:
    ids = make(owner, count, shape, batch_id=BATCH)
    began = time.monotonic()
    assert len(cancel_batch(BATCH)) == count
    took = time.monotonic() - began
    assert set(statuses(ids)) == {"Cancelled"}
    return took


def cancel_parent(owner: Owner, count: int, shape: Callable[[int], list[int]]) -> float:
    parent = family(owner, count, shape)
    began = time.monotonic()
    assert len(cancel_task(parent)) == count + 1
    return time.monotonic() - began


def cancel_first_child(owner: Owner, count: int, shape: Callable[[int], list[int]]) -> float:
    parent = family(owner, count, shape)
    with database.transaction() as connection:
        child = connection.exec_driver_sql(
            "SELECT id FROM tasks WHERE parent_task_id = %s AND child_key = '0'", (parent,)
        ).scalar_one()
    began = time.monotonic()
    cancel_task(child)
    return time.monotonic() - began


def family(owner: Owner, count: int, shape: Callable[[int], list[int]]) -> UUID:
    database.call("create_tasks", p_rows=json.dumps([parent_row(owner)]))
    (parent,) = claim("api", hosted=True)
    rows = [
        {
            **{"task_type": "travel_segment", "project_id": str(owner.project_id), "parent_task_id": str(parent.id)},
            **{"child_key": str(i), "depends_on": [{"index": place} for place in shape(i)]},
        }
        for i in range(count)
    ]
    database.call("plant_children", p_task_id=parent.id, p_lease_id=parent.lease_id, p_rows=json.dumps(rows))
    return parent.id


SOME = [
    (cancel_first, chain),
    (fail_first, layers),
    (cancel_whole_batch, chain),
    (cancel_parent, layers),
    (cancel_first_child, fan_out),
]
ENDS = [cancel_first, fail_first, cancel_whole_batch, cancel_parent, cancel_first_child]
ALL = [(end, shape) for end in ENDS for shape in (chain, fan_out, layers)]


@pytest.mark.parametrize(("end", "shape"), ALL if "UNITASK_TEST_LONG" in os.environ else SOME)
def test_ending_takes_six_times_as_long_when_it_ends_six_times_as_many(
    owner: Owner, end: Callable[[Owner, int, Callable[[int], list[int]]], float], shape: Callable[[int], list[int]]
) -> None:
    end(owner, 20, shape)
    small, large = end(owner, SMALL, shape), end(owner, LARGE, shape)
    print(f"\n{end.__name__} {shape.__name__}: {SMALL} in {small:.3f} s, {LARGE} in {large:.3f} s")
    # Growth with the square would be 36 times; a fifth of a second is what a busy machine may add.
    assert large < 12 * small + 0.2
    check_ledger()
