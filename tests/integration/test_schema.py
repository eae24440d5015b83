"""The schema that the migrations build is the one that the tables declare."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from db import migrate, signatures
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
        connection.execute(sa.text("DROP FUNCTION unitask.failure_cause(tasks)"))
        connection.execute(sa.text("COMMENT ON SCHEMA unitask IS 'of an older version'"))
    migrate.upgrade(database_url)
    with database.transaction() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM pg_proc WHERE proname = 'failure_cause'")) == 1
        triggers = connection.scalars(sa.text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")).all()
    assert {"on_task_created", "guard_task_status", "record_task_moved"} <= set(triggers)


def test_signatures_and_grants_are_written_down_when_a_function_or_right_changed(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        found = signatures.describe(connection)
    engine.dispose()
    kept = signatures.FILE.read_text()
    diff = difflib.unified_diff(kept.splitlines(), found.splitlines(), "the file", "the database", lineterm="")
    assert kept == found, "\n".join(["`python -m db.signatures` writes the file anew:", *diff])


def test_a_right_shows_when_everybody_has_it(owner: Owner) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("GRANT EXECUTE ON FUNCTION unitask.tree_of TO PUBLIC"))
        connection.execute(sa.text("GRANT UPDATE (percent) ON task_progress TO unitask_reader"))
        described = signatures.describe(connection)
    entry = "tree_of(p_task_ids uuid[]) -> uuid[]\n    stable, security invoker\n    called by: "
    assert f"{entry}PUBLIC, unitask_owner" in described
    assert "task_progress: SELECT, UPDATE (percent)" in described


def test_every_file_holds_one_function_in_a_folder_when_the_schema_is_built(owner: Owner) -> None:
    files = migrate.function_files()
    with database.transaction() as connection:
        names = "SELECT proname FROM pg_proc WHERE pronamespace = 'unitask'::regnamespace"
        made = connection.scalars(sa.text(names)).all()
    assert len(made) == len(set(made)), "a function has two signatures"
    triggers = "".join(path.read_text() for path in (migrate.HERE / "sql" / "triggers").glob("*.sql"))
    assert {name for name in made if f"FUNCTION unitask.{name}(" not in triggers} == set(files)
    assert {path.parent.parent for path in files.values()} == {migrate.HERE / "sql" / "functions"}
    assert {name for name, path in files.items() if path.read_text().count("CREATE FUNCTION") != 1} == set()


def test_migration_is_refused_when_two_files_define_one_function(tmp_path: Path) -> None:
    for folder in ("credits", "leases"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "settle.sql").touch()
    with pytest.raises(ValueError, match=r"two files define `unitask.settle`: .*credits.* and .*leases"):
        migrate.function_files(tmp_path)


def test_no_function_takes_a_time_when_callers_have_clocks_of_their_own(owner: Owner) -> None:
    statement = sa.text(
        "SELECT p.proname FROM pg_proc p CROSS JOIN unnest(p.proargtypes) a JOIN pg_type t ON t.oid = a"
        " WHERE p.pronamespace = 'unitask'::regnamespace"
        " AND coalesce(nullif(t.typbasetype, 0), t.oid) = ANY (:types ::regtype[]::oid[])"
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
