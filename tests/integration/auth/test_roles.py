"""What each Postgres role may do, tried as that role; and that a person with SQL sees what is theirs alone."""

from __future__ import annotations

import logging
import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from db import migrate, tables
from tasks_lib import create_task, database, get_task
from tests.conftest import Owner
from tests.integration.auth.roles import READABLE, allowed, as_role

PARAMS = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}
TABLES = [table.name for table in tables.metadata.sorted_tables]
CHANGED: dict[str, set[str]] = {
    "unitask_gateway": {"task_templates", "provider_keys"},
    "unitask_worker": {"workers", "provider_jobs"},
    "unitask_reader": set(),
}
"""The tables that a role may change without one of our functions."""
OF_THE_OWNER = {
    "add_reader",
    "prune_events",
    "prune_tasks",
    "grant_credits",
    "refund_credits",
    "ledger_faults",
    "unsettled_holds",
    "settle_unknown_job",
}
"""What operators and maintenance call, as the owner."""
WORK = {
    "claim_tasks",
    "heartbeat",
    "report_progress",
    "complete_task",
    "fail_task",
    "return_task",
    "plant_children",
    "cancel_held",
    "cancel_of_run",
    "retry_of_run",
    "begin_provider_job",
    "end_provider_job",
    "pause_provider",
    "provider_wait",
    "unwanted_provider_jobs",
    "lock_fleet",
}


def may_call(connection: Connection) -> set[str]:
    rows = connection.execute(
        sa.text(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'unitask'::regnamespace"
            " AND has_function_privilege(oid, 'EXECUTE')"
        )
    )
    return {row.proname for row in rows}


def travel(owner: Owner) -> uuid.UUID:
    return create_task("travel_orchestrator", PARAMS, project_id=owner.project_id, token=owner.token).task_id


@pytest.mark.parametrize("role", CHANGED)
def test_role_changes_nothing_directly_when_it_is_not_the_owner(owner: Owner, role: str) -> None:
    travel(owner)
    with as_role(role) as connection:
        for name in set(TABLES) - CHANGED[role]:
            assert not allowed(connection, f"DELETE FROM {name}"), name
            column = [*tables.metadata.tables[name].columns][:2][-1].name
            assert not allowed(connection, f"UPDATE {name} SET {column} = {column}"), name
            assert not allowed(connection, f"INSERT INTO {name} DEFAULT VALUES"), name
        assert not allowed(connection, "UPDATE task_types SET unit_cost = 0, base_cost_per_second = 0")
        assert not allowed(connection, "SELECT unitask.settle_dependants(ARRAY[gen_random_uuid()])")
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
        assert readable == {"workers", "task_types", "task_dependencies", "provider_jobs"}
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
            "free_upload",
            "hold_upload",
            "cancel_task",
            "cancel_batch",
            "retry_task",
            "balance",
            "provider_key",
            "notify_provider_job",
            "why_waiting",
            "create_project",
            "set_project",
            "create_shot",
            "set_shot",
            "lock_fleet",
            "use_seal",
        }
        rows = f'[{{"task_type": "travel_segment", "project_id": "{owner.project_id}"}}]'
        create = sa.text("SELECT task_id FROM unitask.create_tasks(CAST(:rows AS jsonb))")
        task_id = connection.execute(create, {"rows": rows}).scalar_one()
        connection.execute(sa.text("SELECT unitask.cancel_task(:id, 'no')"), {"id": task_id})
        assert connection.scalar(sa.text("SELECT status FROM tasks")) == "Cancelled"


def test_function_is_for_a_role_when_no_other_function_calls_it(database_url: str) -> None:
    with database.transaction() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT proname, prosrc, prorettype = 'trigger'::regtype AS by_trigger FROM pg_proc"
                " WHERE pronamespace = 'unitask'::regnamespace"
            )
        ).all()
    bodies = {row.proname: row.prosrc for row in rows}
    inner = {row.proname for row in rows if row.by_trigger} | {
        name for name in bodies if any(f"unitask.{name}(" in body for other, body in bodies.items() if other != name)
    }
    granted: set[str] = set()
    for role in CHANGED:
        with as_role(role) as session:
            granted |= may_call(session)
    assert set(bodies) - inner - granted <= OF_THE_OWNER, "name it in grants.sql"


def test_reader_sees_nothing_when_it_is_nobody(owner: Owner) -> None:
    travel(owner)
    with as_role("unitask_reader") as connection:
        assert {name for name in TABLES if allowed(connection, f"SELECT * FROM {name}")} == READABLE
        assert may_call(connection) == {"this_reader"}
        connection.execute(sa.text(f"SET unitask.user_id = '{owner.user_id}'"))
        for name in READABLE - {"task_types"}:
            assert connection.execute(sa.text(f"SELECT * FROM {name}")).all() == [], name


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
