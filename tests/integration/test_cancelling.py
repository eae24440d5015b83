"""Cancelling: one task, a tree and a batch; what runs stops, what was held is released, and nobody else is touched."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from typer.testing import CliRunner

from tasks_lib import cancel_batch, cancel_task, database
from tasks_lib.cli import app
from tasks_lib.errors import NotFoundError
from tasks_lib.queue import heartbeat, leases
from tests.conftest import Owner, make_owner
from tests.races.sessions import check_ledger, claim, completing, make_family, make_tasks, parent_row, row_of, statuses

BATCH = "5e8f8a44-31e8-44ba-9d7c-9a3d1f2c0b11"


def open_hold(owner: Owner) -> object:
    return database.scalar("balance", p_user_id=owner.user_id)


def test_tree_ends_and_its_worker_hears_of_it_when_a_parent_is_cancelled(owner: Owner) -> None:
    parent = make_family(owner, ["a", "b"], "c", hold="1")
    (held,) = claim(limit=1)
    assert len(cancel_task(parent.id)) == 4
    assert heartbeat("worker", [held.lease]).lost == {held.lease}
    assert open_hold(owner) == 0
    check_ledger()


def test_whole_batch_ends_and_nothing_else_when_it_is_cancelled_by_any_of_its_tasks(owner: Owner) -> None:
    (done,) = make_tasks(owner, hold="1", batch_id=BATCH)
    completing(claim(limit=1)[0].lease)()
    first = make_tasks(owner, 250, hold="1", batch_id=BATCH)
    (waiting,) = make_tasks(owner, hold="1", batch_id=BATCH, depends_on=[{"task_id": first[0]}])
    (other,) = make_tasks(owner, hold="1")
    held = claim(limit=3)
    cancelled = cancel_batch(done)
    assert set(cancelled) == {*first, waiting}
    assert set(statuses([*first, waiting])) == {"Cancelled"}
    assert statuses([done, other]) == ["Complete", "Pending"]
    assert heartbeat("worker", [task.lease for task in held]).lost == {task.lease for task in held}
    assert cancel_batch(BATCH) == []
    check_ledger()


def test_children_end_too_when_a_batch_of_travels_is_cancelled(owner: Owner) -> None:
    row = {**parent_row(owner), "batch_id": BATCH}
    database.call("create_tasks", p_rows=json.dumps([row, row]))
    for parent in claim("api", hosted=True):
        leases.plant(parent.lease, [{**row, "parent_task_id": str(parent.id), "child_key": "a", "batch_id": None}])
    assert len(cancel_batch(BATCH)) == 4
    check_ledger()


def test_batch_is_as_good_as_missing_when_it_is_somebody_elses(owner: Owner) -> None:
    (task,) = make_tasks(owner, batch_id=BATCH)
    stranger = make_owner("a stranger")
    for name in (BATCH, task):
        with pytest.raises(NotFoundError):
            cancel_batch(name, token=stranger.token)
    assert row_of(task).status == "Pending"


@pytest.mark.parametrize("by", ["batch", "task"])
def test_batch_ends_when_it_is_cancelled_from_the_command_line(owner: Owner, by: str) -> None:
    tasks = make_tasks(owner, 3, batch_id=BATCH)
    name = BATCH if by == "batch" else str(tasks[1])
    done = CliRunner().invoke(app, ["cancel", name, "--batch", "--output", "json"])
    assert {UUID(id_) for id_ in json.loads(done.stdout)} == set(tasks)
    assert set(statuses(tasks)) == {"Cancelled"}
