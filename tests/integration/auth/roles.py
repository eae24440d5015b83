"""Sessions that are one of our Postgres roles, and what each may do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection

from tasks_lib import database

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
    "credit_budgets",
}
"""The tables in which a person with SQL sees what is theirs."""


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


def reader(user_id: uuid.UUID) -> str:
    """The login of a person with SQL, made if there is none yet."""
    return str(database.scalar("add_reader", p_user_id=user_id))
