"""What the claim promises besides exclusion: turns, ageing priorities, warm models within bounds, due times."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tasks_lib import database
from tests.conftest import Owner, make_owner
from tests.races.sessions import change, claim, completing, expire, make_tasks, row_of


def claim_one(**arguments: Any) -> Any:
    (task,) = claim(limit=1, **arguments)
    return task


def test_every_user_gets_a_turn_when_one_has_a_long_backlog(owner: Owner) -> None:
    make_tasks(owner, 100, priority=100)
    others = [make_owner(f"user {i}") for i in range(5)]
    for other in others:
        make_tasks(other, 2)
    served = []
    for _ in range(12):
        # One slot: nothing runs when the next is claimed.
        task = claim_one()
        completing(task.lease)()
        served.append(task.project_id)
    everybody = {owner.project_id, *(other.project_id for other in others)}
    assert set(served[:6]) == everybody
    assert set(served[6:]) == everybody


def test_user_with_fewer_running_goes_first_when_slots_are_taken_together(owner: Owner) -> None:
    other = make_owner("other")
    make_tasks(owner, 10)
    claim(limit=4)
    make_tasks(other, 10)
    assert [task.project_id for task in claim(limit=4)] == [other.project_id] * 4
    assert {task.project_id for task in claim(limit=2)} == {owner.project_id, other.project_id}


def test_users_are_served_when_many_others_wait_only_for_their_due_time(owner: Owner) -> None:
    for i in range(30):
        make_tasks(make_owner(f"sleeper {i}"), run_after_seconds=3600)
    (task,) = make_tasks(owner)
    assert claim_one().id == task
    assert claim() == []


def test_order_is_by_priority_and_then_age_when_one_user_waits(owner: Owner) -> None:
    low, first, second = [make_tasks(owner, priority=priority)[0] for priority in (-1, 0, 0)]
    (urgent,) = make_tasks(owner, priority=5)
    assert [task.id for task in claim()] == [urgent, first, second, low]


def test_low_priority_goes_first_when_it_has_waited_long_enough(owner: Owner) -> None:
    (low,) = make_tasks(owner, priority=-5)
    (high,) = make_tasks(owner, priority=5)
    change(low, created_at=sa.text("now() - interval '9 minutes'"))
    assert claim_one().id == high
    (high,) = make_tasks(owner, priority=5)
    change(low, created_at=sa.text("now() - interval '11 minutes'"))
    assert [task.id for task in claim()] == [low, high]


def test_warm_model_goes_ahead_when_it_is_near_the_front(owner: Owner) -> None:
    cold = make_tasks(owner, 5, model="cold")
    near = make_tasks(owner, model="warm")
    make_tasks(owner, 20, model="cold")
    far = make_tasks(owner, model="warm")
    assert claim_one(models=["warm"]).id == near[0]
    assert claim_one(models=["warm"]).id == cold[0]
    assert row_of(far[0]).status == "Pending"


def test_cold_model_is_passed_over_a_bounded_number_of_times_when_warm_work_never_ends(owner: Owner) -> None:
    (cold,) = make_tasks(owner, model="cold")
    make_tasks(owner, 40, model="warm")
    claims = [claim_one(models=["warm"], look_ahead=4).id for _ in range(6)]
    assert claims.index(cold) == 4


def test_other_users_keep_their_turns_when_one_has_warm_work(owner: Owner) -> None:
    other = make_owner("other")
    make_tasks(owner, 10, model="warm")
    make_tasks(other, 1, model="cold")
    served = []
    for _ in range(2):
        task = claim_one(models=["warm"])
        completing(task.lease)()
        served.append(task.project_id)
    assert set(served) == {owner.project_id, other.project_id}


def test_cap_bounds_one_user_and_not_the_other_when_both_wait(owner: Owner) -> None:
    other = make_owner("other")
    make_tasks(owner, 5)
    make_tasks(other, 5)
    claimed = claim(limit=10, user_cap=2)
    assert sorted(task.project_id for task in claimed) == sorted([owner.project_id, other.project_id] * 2)
    # A silent worker's leases are not live, and rescued tasks are no longer held.
    expire(claimed[0].id)
    assert len(claim(limit=10, user_cap=2)) == 1


def test_attempts_end_when_a_task_kills_its_worker_each_time(owner: Owner) -> None:
    make_tasks(owner, hold="1")
    for attempt in (1, 2, 3):
        task = claim_one()
        assert task.attempt == attempt
        expire(task.id)
        assert claim() == []
        change(task.id, run_after=sa.func.now())
    row = row_of(task.id)
    assert (row.status, row.error_kind, row.attempt) == ("Failed", "worker_lost", 3)
    assert claim() == []
    assert database.scalar("balance", p_user_id=owner.user_id) == 0
