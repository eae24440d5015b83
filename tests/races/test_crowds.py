"""Many sessions at once: nothing is claimed twice, no bound is passed, nobody owes, nothing dead-locks."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import InsufficientCreditsError, LeaseLostError
from tasks_lib.queue import ClaimedTask
from tests.conftest import Owner, make_owner
from tests.races.sessions import (
    Call,
    at_once,
    call,
    cancelling,
    check_ledger,
    claim,
    completing,
    create_rows,
    deadlocks,
    expire,
    make_family,
    make_tasks,
    row_of,
)

CLAIMERS = 16


def test_each_task_is_claimed_once_when_sixteen_claimers_want_two_thousand(owner: Owner) -> None:
    tasks = make_tasks(owner, 2_000)

    def take_all(worker: str) -> list[UUID]:
        taken: list[UUID] = []
        while found := claim(worker=worker, limit=1):
            taken.append(found[0].id)
        return taken

    answers = at_once([partial(take_all, f"worker-{i}") for i in range(CLAIMERS)])
    claims = [id_ for answer in answers if isinstance(answer, list) for id_ in answer]
    assert len(claims) == 2_000
    assert set(claims) == set(tasks)
    with database.transaction() as connection:
        assert connection.execute(sa.select(sa.func.max(tables.tasks.c.lease_id))).scalar_one() == 1
    assert deadlocks() == 0


def test_cap_holds_when_sixteen_claimers_serve_three_users(owner: Owner) -> None:
    cap, owners = 3, [owner, make_owner("second"), make_owner("third")]
    for each in owners:
        make_tasks(each, 60)
    most: Counter[UUID] = Counter()
    lock = threading.Lock()

    def work(worker: str) -> int:
        done, empty = 0, 0
        while empty < 5:
            found = claim(worker=worker, limit=2, user_cap=cap)
            empty = 0 if found else empty + 1
            for each in owners:
                held = database.scalar("live_leases", p_user_id=each.user_id, p_run_type="gpu")
                with lock:
                    most[each.user_id] = max(most[each.user_id], held)
            for task in found:
                completing(task.lease)()
                done += 1
        return done

    answers = at_once([partial(work, f"worker-{i}") for i in range(CLAIMERS)])
    assert all(isinstance(answer, int) for answer in answers)
    assert max(most.values()) == cap
    left = sum(len(claim(limit=200)) for _ in range(2))
    assert sum(answer for answer in answers if isinstance(answer, int)) + left == 180
    assert deadlocks() == 0


def test_balance_stays_above_zero_when_thirty_two_creators_share_one_purse(owner: Owner) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.insert(tables.credit_ledger).values(user_id=owner.user_id, kind="grant", amount=Decimal("10"))
        )
    create = partial(create_rows(owner.project_id, hold="1.5"), p_enforce_credits=True)
    answers = at_once([create] * 32)
    stored = [answer for answer in answers if isinstance(answer, list)]
    assert len(stored) == 6
    assert all(isinstance(answer, list | InsufficientCreditsError) for answer in answers)
    assert database.scalar("balance", p_user_id=owner.user_id) == Decimal("1")


def test_retry_is_refused_when_the_balance_does_not_cover_it(owner: Owner) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.insert(tables.credit_ledger).values(user_id=owner.user_id, kind="grant", amount=Decimal("1"))
        )
    (first,) = make_tasks(owner, hold="1")
    cancelling(first)()
    make_tasks(owner, hold="0.5")
    with pytest.raises(InsufficientCreditsError):
        call("retry_task", p_task_id=first, p_enforce_credits=True)()
    assert row_of(first).status == "Cancelled"
    assert database.scalar("balance", p_user_id=owner.user_id) == Decimal("0.5")


def test_one_task_is_made_when_sixteen_creators_carry_one_key(owner: Owner) -> None:
    create = create_rows(owner.project_id, idempotency_key="k", request_hash="h")
    answers = at_once([create] * CLAIMERS)
    made = [answer[0] for answer in answers if isinstance(answer, list)]
    assert len(made) == CLAIMERS
    assert len({row["task_id"] for row in made}) == 1
    assert sum(row["created"] for row in made) == 1


def beating(worker: str, held: list[ClaimedTask]) -> Call:
    return call(
        "heartbeat",
        p_worker_id=worker,
        p_task_ids=[task.id for task in held],
        p_lease_ids=[task.lease_id for task in held],
        p_lease_seconds=60.0,
        p_models=[],
    )


def make_claimable() -> None:
    """Let no task wait for the end of its back-off."""
    with database.transaction() as connection:
        pending = tables.tasks.c.status == "Pending"
        connection.execute(sa.update(tables.tasks).where(pending).values(run_after=sa.func.now()))


def go_silent(task: ClaimedTask) -> None:
    """Let a lease have run out, if it is still held."""
    t = tables.tasks
    with database.transaction() as connection:
        held = sa.and_(t.c.id == task.id, t.c.lease_id == task.lease_id, t.c.status == "Processing")
        past = sa.text("clock_timestamp() - interval '1 second'")
        connection.execute(sa.update(t).where(held).values(leased_until=past))


def storm(seed: int, families: list[ClaimedTask]) -> None:
    """Claim, beat, and then complete, cancel some family, or fall silent; until nothing is found for a while."""
    rng = random.Random(seed)
    empty = 0
    while empty < 3:
        found = claim(worker=f"worker-{seed}", limit=3)
        empty = 0 if found else empty + 1
        beating(f"worker-{seed}", found)()
        for task in found:
            move = rng.random()
            if move < 0.15:
                go_silent(task)
                continue
            if move < 0.2:
                cancelling(rng.choice(families).id)()
            with contextlib.suppress(LeaseLostError):
                completing(task.lease)()


def test_nothing_is_lost_or_dead_locked_when_ends_cancels_beats_and_rescues_storm(owner: Owner) -> None:
    families = [make_family(owner, ["a", "b", "c", "d"], "e", hold="1") for _ in range(20)]
    assert at_once([partial(storm, seed, families) for seed in range(8)]) == [None] * 8
    for _ in range(10):
        make_claimable()
        for task in claim(limit=100):
            completing(task.lease)()
    assert {row_of(family.id).status for family in families} <= {"Complete", "Cancelled", "Failed"}
    check_ledger()
    assert deadlocks() == 0


def test_claims_go_on_when_one_row_cannot_be_rescued(owner: Owner) -> None:
    make_tasks(owner, 3)
    bad, good = claim(limit=2)
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
            f"CREATE TRIGGER refuse BEFORE UPDATE OF status ON tasks FOR EACH ROW WHEN (OLD.id = '{bad.id}')"
            " EXECUTE FUNCTION refuse()"
        )
    expire(bad.id)
    expire(good.id)
    assert len(claim(limit=1)) == 1
    assert [row_of(task.id).status for task in (bad, good)] == ["Processing", "Pending"]


def test_lease_is_not_extended_when_the_deadline_is_long_past(owner: Owner) -> None:
    make_tasks(owner)
    (task,) = claim()
    with database.transaction() as connection:
        late = sa.text("clock_timestamp() - interval '2 hours'")
        connection.execute(sa.update(tables.tasks).values(claimed_at=late))
    assert beating("worker", [task])()[0]["kept"] == []
