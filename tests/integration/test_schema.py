"""The schema that the migrations build is the one that the tables declare."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from db import migrate
from db.engine import create_engine
from db.tables import metadata
from tasks_lib import database
from tests.conftest import Owner

CONSTRAINTS = """
    SELECT c.conname, c.contype, pg_get_constraintdef(c.oid) FROM pg_constraint c
    JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = :schema AND t.relname <> 'alembic_version'
"""
INDEXES = """
    SELECT indexname, replace(indexdef, 'ON ' || schemaname || '.', 'ON ') FROM pg_indexes
    WHERE schemaname = :schema AND tablename <> 'alembic_version'
"""
OPTIONS = """
    SELECT relname, reloptions FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE n.nspname = :schema AND relkind = 'r' AND relname <> 'alembic_version'
"""


def test_migrations_build_what_the_tables_declare(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        # Alembic compares no checks, no partial indexes and no storage options: build the tables a second time.
        connection.execute(sa.text("CREATE SCHEMA declared"))
        metadata.create_all(connection.execution_options(schema_translate_map={None: "declared"}))
        for query in (CONSTRAINTS, INDEXES, OPTIONS):
            migrated, declared = (
                {tuple(map(str, row)) for row in connection.execute(sa.text(query), {"schema": schema})}
                for schema in ("public", "declared")
            )
            assert {_plain(row) for row in migrated} == {_plain(row) for row in declared}
    engine.dispose()


def _plain(row: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.replace("declared.", "") for text in row)


def test_functions_are_replaced_when_a_file_changed(owner: Owner, database_url: str) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("DROP FUNCTION unitask.blame(tasks)"))
        connection.execute(sa.text("COMMENT ON SCHEMA unitask IS 'of an older version'"))
    migrate.upgrade(database_url)
    with database.transaction() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM pg_proc WHERE proname = 'blame'")) == 1
        triggers = connection.scalars(sa.text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")).all()
    assert {"on_task_created", "guard_task_status", "record_task_moved"} <= set(triggers)


def test_no_function_takes_a_time_when_callers_have_clocks_of_their_own(owner: Owner) -> None:
    statement = sa.text(
        "SELECT p.proname FROM pg_proc p CROSS JOIN unnest(p.proargtypes) t"
        " WHERE p.pronamespace = 'unitask'::regnamespace AND t = ANY (:types ::regtype[]::oid[])"
    )
    types = ["timestamptz", "timestamp", "date", "time", "timetz"]
    with database.transaction() as connection:
        assert connection.scalars(statement, {"types": types}).all() == []
        # Seconds from now are what they take: those mean the same on every clock.
        takes_seconds = statement.bindparams(types=["double precision"])
        assert "claim_tasks" in connection.scalars(takes_seconds).all()


def test_tables_lie_outside_the_schema_of_functions_when_the_login_has_its_name(database_url: str) -> None:
    """Postgres makes tables in a schema of the login's name, if there is one; and that one is dropped now and then."""
    url = sa.make_url(database_url)
    name = f"{url.database}_named"
    with database.get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("CREATE ROLE unitask LOGIN SUPERUSER"))
        connection.execute(sa.text(f'CREATE DATABASE "{name}" OWNER unitask'))
    # Over its socket the server lets nobody in under another name.
    named = url.set(database=name).update_query_dict({"options": "-crole=unitask"}).render_as_string(False)
    engine = create_engine(named)
    try:
        migrate.upgrade(named)
        with engine.begin() as connection:
            connection.execute(sa.text("COMMENT ON SCHEMA unitask IS 'of an older version'"))
        assert not migrate.is_current(engine)
        migrate.upgrade(named)
        assert migrate.is_current(engine)
        with engine.connect() as connection:
            tables = connection.scalars(sa.text("SELECT schemaname FROM pg_tables WHERE tablename = 'tasks'")).all()
        assert tables == ["public"]
    finally:
        engine.dispose()
        with database.get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
            connection.execute(sa.text("DROP ROLE unitask"))
