"""Two real sessions at one statement, in both orders: one of them wins, and the loser changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import database, queue
from tasks_lib.errors import ConflictError, LeaseLostError, NotFoundError
from tests.conftest import Owner
from tests.races.sessions import (
    Call,
    call,
    cancelling,
    change,
    check_ledger,
    claim,
    claiming,
    completing,
    create_rows,
    expire,
    make_family,
    make_tasks,
    meet,
    nothing_changes,
    parent_row,
    plant,
    row_of,
    statuses,
)

PLACEMENT = {"as": "generation", "type": "video"}
RESCUE = call("rescue_tasks")


def count(table: sa.Table) -> int:
    with database.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def children(parent: queue.ClaimedTask) -> list[Any]:
    with database.transaction() as connection:
        t = tables.tasks
        rows = connection.execute(sa.select(t).where(t.c.parent_task_id == parent.id).order_by(t.c.created_at))
        return list(rows)


def test_zombie_changes_nothing_when_its_task_was_rescued(owner: Owner) -> None:
    make_tasks(owner, placement=PLACEMENT, hold="1")
    (zombie,) = claim(worker="zombie")
    expire(zombie.id)
    assert claim() == []
    change(zombie.id, run_after=sa.func.now())
    (current,) = claim()
    assert current.lease_id == zombie.lease_id + 1
    with nothing_changes():
        with pytest.raises(LeaseLostError):
            queue.complete(zombie.lease, queue.Output("stale.mp4"))
        with pytest.raises(LeaseLostError):
            queue.fail(zombie.lease, ConflictError("stale"))
        with pytest.raises(LeaseLostError):
            queue.report_progress(zombie.lease, queue.Progress(50))
        with pytest.raises(LeaseLostError):
            queue.give_back(zombie.lease)
        assert queue.heartbeat("zombie", [zombie.lease]).lost == {zombie.lease}
    completing(current.lease)()
    assert row_of(zombie.id).output_location == "film.mp4"
    with nothing_changes(), pytest.raises(LeaseLostError):
        queue.complete(zombie.lease, queue.Output("stale.mp4"))


def test_cancel_finds_nothing_when_completion_came_first(owner: Owner) -> None:
    make_tasks(owner, placement=PLACEMENT, hold="1")
    (task,) = claim()
    assert meet(completing(task.lease), cancelling(task.id)) == [{"cancel_task": []}]
    assert (row_of(task.id).status, count(tables.generations)) == ("Complete", 1)
    check_ledger()


def test_completion_is_refused_when_cancel_came_first(owner: Owner) -> None:
    make_tasks(owner, placement=PLACEMENT, hold="1")
    (task,) = claim()
    assert isinstance(meet(cancelling(task.id), completing(task.lease)), LeaseLostError)
    assert (row_of(task.id).status, count(tables.generations)) == ("Cancelled", 0)
    check_ledger()


def test_rescue_finds_nothing_when_completion_came_first(owner: Owner) -> None:
    make_tasks(owner)
    (task,) = claim()
    expire(task.id)
    assert meet(completing(task.lease), RESCUE) == [{"rescue_tasks": 0}]
    assert row_of(task.id).status == "Complete"


def test_completion_is_refused_when_rescue_came_first(owner: Owner) -> None:
    make_tasks(owner)
    (task,) = claim()
    expire(task.id)
    assert isinstance(meet(RESCUE, completing(task.lease)), LeaseLostError)
    assert row_of(task.id).status == "Pending"


@pytest.mark.parametrize("beat_first", [True, False])
def test_lease_is_kept_or_lost_when_heartbeat_and_rescue_meet(owner: Owner, beat_first: bool) -> None:
    make_tasks(owner)
    (task,) = claim()
    expire(task.id)
    beat = call(
        "heartbeat",
        p_worker_id="worker",
        p_task_ids=[task.id],
        p_lease_ids=[task.lease_id],
        p_lease_seconds=60.0,
        p_models=[],
    )
    if beat_first:
        assert meet(beat, RESCUE) == [{"rescue_tasks": 0}]
        assert row_of(task.id).status == "Processing"
    else:
        assert meet(RESCUE, beat)[0]["kept"] == []
        assert row_of(task.id).status == "Pending"


@pytest.mark.parametrize("ends", [completing, cancelling])
@pytest.mark.parametrize("end_first", [True, False])
def test_host_is_not_stopped_when_its_heartbeat_meets_the_end_of_its_row(
    owner: Owner, ends: Any, end_first: bool
) -> None:
    parent = make_family(owner, ["a"])
    (child,) = claim()
    end = completing(child.lease) if ends is completing else cancelling(parent.id)
    beat = call(
        "heartbeat",
        p_worker_id="worker",
        p_task_ids=[parent.id],
        p_lease_ids=[parent.lease_id],
        p_lease_seconds=60.0,
        p_models=[],
    )
    if end_first:
        assert meet(end, beat)[0]["kept"] == [parent.id]
    else:
        meet(beat, end)
    assert row_of(parent.id).status == ("Complete" if ends is completing else "Cancelled")
    assert beat()[0]["kept"] == [parent.id]


def test_host_is_stopped_when_its_row_was_rescued(owner: Owner) -> None:
    parent = make_family(owner, ["a"])
    expire(parent.id)
    claim("api", hosted=True)
    assert queue.heartbeat("worker", [parent.lease]).lost == {parent.lease}


def test_completion_answers_the_same_when_its_repeat_overtakes_its_commit(owner: Owner) -> None:
    make_tasks(owner, placement=PLACEMENT, hold="1")
    (task,) = claim()
    # As a worker does whose connection broke before the answer.
    assert meet(completing(task.lease), completing(task.lease)) == [{"complete_task": []}]
    assert (count(tables.generations), count(tables.generation_variants)) == (1, 1)
    check_ledger()


def test_children_are_planted_once_when_a_second_host_waits_for_the_first(owner: Owner) -> None:
    call("create_tasks", p_rows=json.dumps([parent_row(owner)]))()
    (old,) = claim("api", "old", hosted=True)
    expire(old.id)
    planting = plant(old.lease, owner, ["a", "b"], "c")
    # The second host's claim rescues the parent, and waits for the first one's transaction to do so.
    (adopted,) = meet(planting, claiming("api", "new", hosted=True)) or claim("api", "new", hosted=True)
    lease = queue.Lease(adopted["id"], adopted["lease_id"]) if isinstance(adopted, dict) else adopted.lease
    assert lease.lease_id == old.lease_id + 1
    answers = plant(lease, owner, ["a", "b"], "c")()
    assert [answer["created"] for answer in answers] == [False] * 3
    assert [child.child_key for child in children(old)] == ["a", "b", "c"]
    assert [child.deps_pending for child in children(old)] == [0, 0, 2]


def test_old_host_plants_nothing_when_a_second_host_plants(owner: Owner) -> None:
    call("create_tasks", p_rows=json.dumps([parent_row(owner)]))()
    (old,) = claim("api", "old", hosted=True)
    expire(old.id)
    claim("api", "new", hosted=True)
    change(old.id, run_after=sa.func.now())
    (new,) = claim("api", "new", hosted=True)
    refused = meet(plant(new.lease, owner, ["a", "b"]), plant(old.lease, owner, ["x", "y"]))
    assert isinstance(refused, LeaseLostError)
    assert [child.child_key for child in children(new)] == ["a", "b"]


def test_children_are_planted_once_when_one_host_repeats_itself(owner: Owner) -> None:
    call("create_tasks", p_rows=json.dumps([parent_row(owner)]))()
    (parent,) = claim("api", hosted=True)
    planting = plant(parent.lease, owner, ["a", "b"], "c", hold="1")
    assert [answer["created"] for answer in meet(planting, planting)] == [False] * 3
    assert len(children(parent)) == 3
    check_ledger()


def test_all_children_are_cancelled_when_cancel_waits_for_their_planting(owner: Owner) -> None:
    call("create_tasks", p_rows=json.dumps([parent_row(owner)]))()
    (parent,) = claim("api", hosted=True)
    (answer,) = meet(plant(parent.lease, owner, ["a", "b"], "c", hold="1"), cancelling(parent.id))
    assert len(answer["cancel_task"]) == 4
    assert {child.status for child in children(parent)} == {"Cancelled"}
    check_ledger()


def test_nothing_is_planted_when_cancel_came_first(owner: Owner) -> None:
    call("create_tasks", p_rows=json.dumps([parent_row(owner)]))()
    (parent,) = claim("api", hosted=True)
    assert isinstance(meet(cancelling(parent.id), plant(parent.lease, owner, ["a"])), LeaseLostError)
    assert children(parent) == []


@pytest.mark.parametrize("edge_first", [True, False])
@pytest.mark.parametrize(
    ("ends", "policy", "status"),
    [
        (completing, "fail", "Pending"),
        (completing, "run_anyway", "Pending"),
        (cancelling, "fail", "Failed"),
        (cancelling, "run_anyway", "Pending"),
    ],
)
def test_edge_is_settled_when_its_insert_meets_the_end_of_its_dependency(
    owner: Owner, edge_first: bool, ends: Any, policy: str, status: str
) -> None:
    make_tasks(owner)
    (dependency,) = claim()
    end: Call = ends(dependency.lease) if ends is completing else ends(dependency.id)
    create = create_rows(owner.project_id, depends_on=[{"task_id": dependency.id, "policy": policy}], hold="1")
    meet(create, end) if edge_first else meet(end, create)
    with database.transaction() as connection:
        t = tables.tasks
        dependant = connection.execute(sa.select(t).where(t.c.id != dependency.id)).one()
    assert dependant.status == status
    assert (dependant.deps_pending == 0) == (status == "Pending")
    check_ledger()


def test_create_is_refused_when_its_dependency_is_deleted_at_that_moment(owner: Owner) -> None:
    (dependency,) = make_tasks(owner)
    create = create_rows(owner.project_id, depends_on=[{"task_id": dependency}])
    assert isinstance(meet(sa.delete(tables.tasks).where(tables.tasks.c.id == dependency), create), NotFoundError)
    assert count(tables.tasks) == 0


@pytest.mark.parametrize("ends", [completing, cancelling])
def test_parent_is_settled_once_when_its_two_last_children_end_at_once(owner: Owner, ends: Any) -> None:
    parent = make_family(owner, ["a", "b"])
    first, second = claim()
    meet(completing(first.lease), ends(second.lease) if ends is completing else ends(second.id))
    assert row_of(parent.id).status == ("Complete" if ends is completing else "Cancelled")
    with database.transaction() as connection:
        e = tables.task_events
        moves = sa.select(e.c.kind).where(e.c.task_id == parent.id, e.c.kind != "progress")
        ends_of_parent = connection.scalars(moves).all()
    assert sorted(ends_of_parent)[0] in ("cancelled", "complete")
    assert len(ends_of_parent) == 3


def test_last_task_is_released_once_when_all_it_waits_for_end_at_once(owner: Owner) -> None:
    parent = make_family(owner, ["a", "b"], "c")
    first, second = claim()
    assert meet(completing(first.lease), completing(second.lease)) == [{"complete_task": ["gpu"]}]
    (last,) = claim()
    assert (last.child_key, row_of(last.id).deps_pending) == ("c", 0)
    completing(last.lease)()
    assert row_of(parent.id).status == "Complete"


def test_second_create_answers_the_first_when_both_carry_one_key(owner: Owner) -> None:
    create = create_rows(owner.project_id, idempotency_key="k", request_hash="h", hold="1")
    (answer,) = meet(create, create)
    assert answer["created"] is False
    assert (count(tables.tasks), count(tables.credit_ledger)) == (1, 1)


def test_second_create_stores_it_when_the_first_was_undone(owner: Owner) -> None:
    create = create_rows(owner.project_id, idempotency_key="k", request_hash="h")
    (answer,) = meet(create, create, first_is_undone=True)
    assert answer["created"] is True
    assert count(tables.tasks) == 1


def test_second_create_is_a_conflict_when_one_key_carries_two_requests(owner: Owner) -> None:
    first = create_rows(owner.project_id, idempotency_key="k", request_hash="h")
    second = create_rows(owner.project_id, idempotency_key="k", request_hash="other")
    assert isinstance(meet(first, second), ConflictError)
    assert count(tables.tasks) == 1


def test_batches_are_stored_once_when_their_keys_cross(owner: Owner) -> None:
    def batch(*keys: str) -> Call:
        base = {"task_type": "travel_segment", "project_id": str(owner.project_id), "request_hash": "h"}
        return call("create_tasks", p_rows=json.dumps([{**base, "idempotency_key": key} for key in keys]))

    answers = meet(batch("a", "b", "c"), batch("c", "b", "a", "d"))
    assert [answer["created"] for answer in answers] == [False, False, False, True]
    assert count(tables.tasks) == 4


def test_second_claim_gets_nothing_when_the_first_reached_the_cap(owner: Owner) -> None:
    make_tasks(owner, 5)
    assert meet(claiming(limit=2, user_cap=2), claiming(limit=2, user_cap=2)) == []
    assert count(tables.tasks) == 5


def test_second_claim_gets_the_next_task_when_the_first_holds_the_head(owner: Owner) -> None:
    """The seed's claim locked the joined project too, so that a second worker got nothing (peers.md 3.4)."""
    ids = make_tasks(owner, 2)
    (second,) = meet(claiming(limit=1), claiming(limit=1))
    assert second["id"] == ids[1]


def test_dependant_lives_again_once_when_two_retries_share_it(owner: Owner) -> None:
    first, second = make_tasks(owner, 2, hold="1")
    (shared,) = make_tasks(owner, hold="1", depends_on=[{"task_id": first}, {"task_id": second}])
    cancelling(first)()
    assert statuses([first, second, shared]) == ["Cancelled", "Pending", "Failed"]
    retry = call("retry_task", p_task_id=first)
    assert isinstance(meet(retry, retry), ConflictError)
    assert statuses([first, second, shared]) == ["Pending"] * 3
    assert row_of(shared).retries == 1
    check_ledger()


def test_shared_dependant_is_brought_back_once_when_both_its_causes_are_retried(owner: Owner) -> None:
    first, second = make_tasks(owner, 2, hold="1")
    (shared,) = make_tasks(
        owner, hold="1", depends_on=[{"task_id": first}, {"task_id": second, "policy": "run_anyway"}]
    )
    cancelling(first)()
    cancelling(second)()
    meet(call("retry_task", p_task_id=first), call("retry_task", p_task_id=second))
    assert statuses([first, second, shared]) == ["Pending"] * 3
    assert row_of(shared).retries == 1
    check_ledger()


@pytest.mark.parametrize("retry_first", [True, False])
def test_dependant_waits_no_longer_when_its_retry_meets_the_end_of_its_other_dependency(
    owner: Owner, retry_first: bool
) -> None:
    failed, running = make_tasks(owner, 2)
    (dependant,) = make_tasks(owner, depends_on=[{"task_id": failed}, {"task_id": running}])
    (task,) = claim(task_id=running)
    cancelling(failed)()
    retry, complete = call("retry_task", p_task_id=failed), completing(task.lease)
    meet(retry, complete) if retry_first else meet(complete, retry)
    completing(claim(task_id=failed)[0].lease)()
    assert row_of(dependant).deps_pending == 0
    assert claim()[0].id == dependant


def test_worker_is_told_when_its_task_was_deleted(owner: Owner) -> None:
    make_tasks(owner)
    (task,) = claim()
    delete = sa.delete(tables.tasks).where(tables.tasks.c.id == task.id)
    assert isinstance(meet(delete, completing(task.lease)), NotFoundError)
