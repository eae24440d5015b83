"""What the login of a worker, or of a person who reads, tries against the others, through that login."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from flows import schedules
from tasks_lib import create_task, database, get_task, queue
from tasks_lib.queue.listening import MOST_WORDS, Bell
from tests.conftest import Owner, make_owner
from tests.logins import login

NAMES = ["rescue", "fleet.gpu", "fleet.api", "task_types", "migrate", "deploy", "providerfal", "providerreplicate"]
"""Of the advisory locks that there were, each after `unitask.`."""


@contextmanager
def session(role: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of another login, with psycopg alone."""
    with login(database.database_url(), role) as url:
        plain = sa.make_url(url).set(drivername="postgresql").render_as_string(False)
        with psycopg.connect(plain, autocommit=True) as connection:
            yield connection


@pytest.fixture
def claimed(owner: Owner) -> queue.ClaimedTask:
    """A task with a hold, that a worker has claimed; and 100 credits of its owner's."""
    credits_of(owner, "100")
    create_task("z_image_turbo", {"prompt": "a"}, project_id=owner.project_id)
    run_type = "gpu"
    (task,) = queue.claim(run_type, "worker") or queue.claim("api", "worker")
    return task


def credits_of(owner: Owner, amount: str) -> None:
    database.call("grant_credits", p_user_id=owner.user_id, p_amount=Decimal(amount), p_reason="a test")


def balance(owner: Owner) -> Decimal:
    return Decimal(database.scalar("balance", p_user_id=owner.user_id))


@pytest.mark.parametrize("cost", ["-1000", "NaN", "Infinity", "-Infinity", "1e20"])
def test_balance_is_not_raised_when_a_worker_says_a_cost_that_is_none(
    owner: Owner, claimed: queue.ClaimedTask, cost: str
) -> None:
    before = balance(owner)
    with session("unitask_worker") as worker, pytest.raises(psycopg.errors.CheckViolation):
        worker.execute("SELECT unitask.complete_task(%s, %s, NULL, '{}', %s::numeric)", (*claimed.lease, cost))
    assert balance(owner) == before
    assert get_task(claimed.id).status == "Processing"


def test_task_is_kept_when_a_worker_names_no_lease(claimed: queue.ClaimedTask) -> None:
    calls = ["complete_task(%s, NULL, NULL, '{}')", "return_task(%s, NULL)", "cancel_held(%s, NULL, 'no')"]
    calls += ["fail_task(%s, NULL, 'engine', 'no', false)", "plant_children(%s, NULL, '[]')"]
    with session("unitask_worker") as worker:
        for call in calls:
            with pytest.raises(psycopg.errors.CheckViolation):
                worker.execute(f"SELECT unitask.{call}".encode(), (claimed.id,))
    assert get_task(claimed.id).status == "Processing"


def test_result_is_refused_when_it_is_a_file_of_another_project(owner: Owner, claimed: queue.ClaimedTask) -> None:
    foreign = f"{make_owner('another').project_id}/uploads/secret.png"
    report = json.dumps(
        [{"task_id": str(claimed.id), "lease_id": claimed.lease_id, "percent": 5, "preview_key": foreign}]
    )
    with session("unitask_worker") as worker:
        for wrong in (foreign, f"{owner.project_id}/../{foreign}", "/etc/passwd"):
            with pytest.raises(psycopg.Error, match=r"does not belong|check constraint"):
                worker.execute("SELECT unitask.complete_task(%s, %s, %s, '{}')", (*claimed.lease, wrong))
        with pytest.raises(psycopg.Error, match="does not belong"):
            worker.execute("SELECT unitask.report_progress(%s)", (report,))
        worker.execute(
            "SELECT unitask.complete_task(%s, %s, %s, '{}')", (*claimed.lease, f"{owner.project_id}/tasks/a.png")
        )
    assert get_task(claimed.id).status == "Complete"


def test_children_cost_what_was_frozen_when_a_worker_plants_others(owner: Owner) -> None:
    credits_of(owner, "100")
    travel = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}
    parent = create_task("travel_orchestrator", travel, project_id=owner.project_id).task_id
    (held,) = queue.claim("api", "worker", hosted=True)
    rows = [{"task_type": "z_image_turbo", "child_key": "mine", "params": {"prompt": "a"}, "priority": 0}]
    rows[0]["price"] = {"amount": "-1000", "high": "0", "per": "unit"}
    with session("unitask_worker") as worker:
        worker.execute("SELECT unitask.plant_children(%s, %s, %s)", (parent, held.lease_id, json.dumps(rows)))
    for pool in ("gpu", "api"):
        for task in queue.claim(pool, "worker", 5):
            queue.complete(task.lease, queue.Output(None))
    assert balance(owner) <= 100


def test_claims_rescue_when_readers_hold_every_lock_that_they_can(owner: Owner, claimed: queue.ClaimedTask) -> None:
    with session("unitask_reader") as reader:
        for name in NAMES:
            reader.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"unitask.{name}",))
        with database.transaction() as connection:
            past = sa.text("UPDATE tasks SET leased_until = now() - interval '1 minute' WHERE id = :id")
            connection.execute(past, {"id": claimed.id})
        queue.claim("gpu", "another")
        assert get_task(claimed.id).status == "Pending"
        with database.transaction() as connection:
            for statement in ("SELECT unitask.lock_fleet('gpu')", "SELECT unitask.lock_guard('provider fal', false)"):
                assert connection.scalar(sa.text(statement)) is True


def test_no_advisory_lock_guards_anything_when_every_login_can_take_it(database_url: str) -> None:
    with database.transaction() as connection:
        takes = (
            "SELECT proname FROM pg_proc WHERE pronamespace = 'unitask'::regnamespace AND prosrc ~ 'pg_[a-z_]*advisory'"
        )
        assert connection.scalars(sa.text(takes)).all() == []


@pytest.mark.parametrize("role", ["unitask_reader", "unitask_worker", "unitask_gateway"])
def test_guard_is_not_to_be_had_when_a_login_asks_for_its_row(owner: Owner, role: str) -> None:
    statements = ["SELECT FROM guards", "SELECT FROM guards FOR UPDATE", "DELETE FROM guards"]
    statements += ["SELECT unitask.lock_guard('rescue')"]
    with session(role) as other:
        for statement in statements:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(statement.encode())


@pytest.mark.parametrize("role", ["unitask_reader", "unitask_worker"])
def test_table_is_not_locked_against_everybody_when_a_login_asks_for_it(owner: Owner, role: str) -> None:
    with database.transaction() as connection:
        tables = connection.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
    with session(role) as other:
        for table in tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), other.transaction():
                other.execute(f'LOCK TABLE "{table}" IN SHARE ROW EXCLUSIVE MODE NOWAIT'.encode())


def test_guard_is_held_by_one_when_two_want_it(database_url: str) -> None:
    held = sa.text("SELECT unitask.lock_guard('a name', false)")
    with database.transaction() as connection:
        connection.execute(held)
    with database.transaction() as one, database.transaction() as another:
        assert one.scalar(held) is True
        assert another.scalar(held) is False
    with database.transaction() as connection:
        assert connection.scalar(held) is True


def test_run_is_known_to_live_while_it_works_and_leaves_no_row(database_url: str) -> None:
    run = str(uuid4())
    try_lock = sa.text("SELECT unitask.lock_guard('run ' || :run, false)")
    with schedules.working_on(run), database.transaction() as connection:
        assert connection.scalar(try_lock, {"run": run}) is False
    with database.transaction() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM guards WHERE name LIKE 'run %'")) == 0
        assert connection.scalar(try_lock, {"run": run}) is True


def test_provider_is_paused_an_hour_at_most_when_a_worker_wants_it_for_ever(database_url: str) -> None:
    with session("unitask_worker") as worker:
        for seconds in (3601, -1, float("inf"), float("nan"), None):
            with pytest.raises(psycopg.errors.CheckViolation):
                worker.execute("SELECT unitask.pause_provider('fal', %s::float8)", (seconds,))
        worker.execute("SELECT unitask.pause_provider('fal', 3600)")


def test_jobs_of_others_are_not_turned_into_ones_own_when_a_worker_updates_them(database_url: str) -> None:
    with session("unitask_worker") as worker:
        for column in ("account", "cost", "task_id", "life", "provider", "created_at"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(f"UPDATE provider_jobs SET {column} = {column}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute("UPDATE workers SET drain = true")


def test_memory_stays_when_a_reader_notifies_words_without_end() -> None:
    bell = Bell()
    for number in range(3 * MOST_WORDS):
        bell.ring(str(number))
    assert len(bell._events) == MOST_WORDS


def test_reader_has_few_connections_when_the_server_has_room_for_more(owner: Owner) -> None:
    name = database.scalar("add_reader", p_user_id=owner.user_id)
    with database.transaction() as connection:
        limit = connection.scalar(sa.text("SELECT rolconnlimit FROM pg_roles WHERE rolname = :name"), {"name": name})
    assert limit == 5
