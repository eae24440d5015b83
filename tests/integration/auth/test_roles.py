"""What each Postgres role may do, tried as that role; and that a person with SQL sees what is theirs alone."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from db import migrate, tables
from tasks_lib import cancel_batch, cancel_task, create_task, database, get_task, list_tasks, retry_task
from tasks_lib.errors import ConflictError, NotFoundError
from tests.conftest import Owner, make_owner

PARAMS = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}
TABLES = [table.name for table in tables.metadata.sorted_tables]
READABLE = {
    "projects",
    "shots",
    "task_types",
    "task_templates",
    "tasks",
    "task_dependencies",
    "task_progress",
    "task_events",
    "generations",
    "generation_variants",
    "shot_generations",
    "credit_ledger",
}
WORK = {
    "claim_tasks",
    "heartbeat",
    "report_progress",
    "complete_task",
    "fail_task",
    "return_task",
    "plant_children",
    "begin_provider_job",
    "end_provider_job",
    "pause_provider",
    "provider_wait",
    "unwanted_provider_jobs",
}


@contextmanager
def as_role(role: str) -> Iterator[Connection]:
    """A session of its own that is this role and can become no other."""
    engine = sa.create_engine(database.database_url(), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f'SET SESSION AUTHORIZATION "{role}"'))
        yield connection


def allowed(connection: Connection, statement: str) -> bool:
    """Whether a statement passes the check of rights (it may touch no row)."""
    try:
        connection.execute(sa.text(statement))
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise
        return False
    return True


def may_call(connection: Connection) -> set[str]:
    rows = connection.execute(
        sa.text(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'unitask'::regnamespace"
            " AND has_function_privilege(oid, 'EXECUTE')"
        )
    )
    return {row.proname for row in rows}


def reader(user_id: uuid.UUID) -> str:
    return str(database.scalar("add_reader", p_user_id=user_id))


def travel(owner: Owner) -> uuid.UUID:
    return create_task("travel_orchestrator", PARAMS, project_id=owner.project_id, token=owner.token).task_id


@pytest.mark.parametrize("role", ["unitask_gateway", "unitask_worker", "unitask_reader"])
def test_role_changes_nothing_directly_when_it_is_not_the_owner(owner: Owner, role: str) -> None:
    travel(owner)
    with as_role(role) as connection:
        for name in set(TABLES) - {"workers", "provider_jobs", "task_templates"}:
            assert not allowed(connection, f"DELETE FROM {name}"), name
            column = list(tables.metadata.tables[name].columns)[1].name
            assert not allowed(connection, f"UPDATE {name} SET {column} = {column}"), name
            assert not allowed(connection, f"INSERT INTO {name} DEFAULT VALUES"), name
        assert not allowed(connection, "UPDATE task_types SET unit_cost = 0, base_cost_per_second = 0")
        assert not allowed(connection, "SELECT unitask.settle(gen_random_uuid())")
        assert not allowed(connection, "SELECT unitask.add_reader(gen_random_uuid())")
        assert not allowed(connection, "CREATE TABLE mine (id integer)")
        assert not allowed(connection, "SET ROLE unitask_owner")


def test_prices_change_when_the_owner_says_so(owner: Owner) -> None:
    with as_role("unitask_owner") as connection:
        changed = connection.execute(sa.text("UPDATE task_types SET unit_cost = 1 RETURNING name")).all()
    assert changed


def test_worker_claims_and_completes_and_nothing_else(owner: Owner) -> None:
    task_id = travel(owner)
    with as_role("unitask_worker") as connection:
        assert may_call(connection) == WORK
        readable = {name for name in TABLES if allowed(connection, f"SELECT * FROM {name}")}
        assert readable == {"workers", "task_types", "provider_jobs"}
        assert not allowed(connection, "SELECT params FROM tasks")
        claim = "SELECT id, lease_id FROM unitask.claim_tasks('api', 'w', 1, 60, p_hosted => true)"
        (claimed,) = connection.execute(sa.text(claim)).all()
        assert claimed.id == task_id
        done = "SELECT unitask.complete_task(:id, :lease, 'film.mp4', '{}', NULL)"
        connection.execute(sa.text(done), {"id": claimed.id, "lease": claimed.lease_id})
    assert get_task(task_id).status == "Complete"


def test_gateway_creates_and_cancels_and_claims_nothing(owner: Owner) -> None:
    with as_role("unitask_gateway") as connection:
        assert may_call(connection) == {
            "create_tasks",
            "count_call",
            "cancel_task",
            "cancel_batch",
            "retry_task",
            "balance",
        }
        rows = f'[{{"task_type": "travel_segment", "project_id": "{owner.project_id}"}}]'
        create = sa.text("SELECT task_id FROM unitask.create_tasks(CAST(:rows AS jsonb))")
        task_id = connection.execute(create, {"rows": rows}).scalar_one()
        connection.execute(sa.text("SELECT unitask.cancel_task(:id, 'no')"), {"id": task_id})
        assert connection.scalar(sa.text("SELECT status FROM tasks")) == "Cancelled"


def test_reader_sees_nothing_when_it_is_nobody(owner: Owner) -> None:
    travel(owner)
    with as_role("unitask_reader") as connection:
        assert {name for name in TABLES if allowed(connection, f"SELECT * FROM {name}")} == READABLE
        assert may_call(connection) == {"this_reader"}
        connection.execute(sa.text(f"SET unitask.user_id = '{owner.user_id}'"))
        for name in READABLE - {"task_types"}:
            assert connection.execute(sa.text(f"SELECT * FROM {name}")).all() == [], name


def test_neither_touches_a_row_of_the_other_when_two_users_act_at_random(database_url: str) -> None:
    """Random calls of two users, interleaved, on their own ids and on the other's; and the same by SQL."""
    users = [make_owner("one"), make_owner("two")]
    mine: dict[uuid.UUID, list[uuid.UUID]] = {user.user_id: [travel(user)] for user in users}
    chance = random.Random(4)
    operations: list[Callable[..., Any]] = [cancel_task, cancel_batch, retry_task, get_task, travel]
    for _ in range(60):
        user, other = chance.sample(users, 2)
        operation = chance.choice(operations)
        if operation is travel:
            mine[user.user_id].append(travel(user))
            continue
        foreign = chance.choice(mine[other.user_id])
        with pytest.raises(NotFoundError):
            operation(foreign, token=user.token)
        try:
            operation(chance.choice(mine[user.user_id]), token=user.token)
        except ConflictError:
            assert operation is retry_task
    for user in users:
        assert {task.id for task in list_tasks(limit=1000, token=user.token)} == set(mine[user.user_id])
        with as_role(reader(user.user_id)) as connection:
            seen = connection.execute(sa.text("SELECT id FROM tasks")).scalars()
            assert set(seen) == set(mine[user.user_id])
            for name in ("projects", "generations", "task_events", "credit_ledger"):
                rows = connection.execute(sa.text(f"SELECT * FROM {name}")).mappings().all()
                assert rows or name == "credit_ledger"
                assert all(
                    row.get("user_id", user.user_id) == user.user_id
                    and row.get("project_id", user.project_id) == user.project_id
                    for row in rows
                ), name
            assert not allowed(connection, f'SET ROLE "{reader(users[user is users[0]].user_id)}"')


def test_migration_says_so_and_goes_on_when_roles_cannot_be_made(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a user who owns the database and may make no roles, on a server that has none."""
    login = f"plain_{uuid.uuid4().hex[:12]}"
    name = f"owned_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE ROLE {login} LOGIN"))
        connection.execute(sa.text(f"CREATE DATABASE {name} OWNER {login}"))
    # The server has the roles by now: look for others.
    monkeypatch.setattr(migrate, "ROLES", ("nobody_made_this",))
    url = sa.make_url(database_url).set(database=name).update_query_dict({"options": f"-c role={login}"})
    try:
        with caplog.at_level(logging.WARNING, "db.migrate"):
            migrate.upgrade(url.render_as_string(False))
            migrate.upgrade(url.render_as_string(False))
        assert "may not make roles" in caplog.text
        assert caplog.text.count("may not make roles") == 1
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
            connection.execute(sa.text(f"DROP ROLE {login}"))
