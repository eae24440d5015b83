"""Bring a database to the schema of this version: Alembic for tables, then the SQL files for the rest.

Functions and triggers live in the schema `unitask`, one file each under db/sql, and are dropped and made anew as
one set whenever a file changes, with the roles and their rights. So "what is the claim rule today?" has one answer:
the file. Functions lie in folders by what they move, and no two files have one name, whatever their folders.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import IntegrityError

HERE = Path(__file__).parent
ROLES = ("unitask_owner", "unitask_gateway", "unitask_worker", "unitask_reader")
POLICIES = ("roles", "rows", "grants")
"""Files of db/sql/policies, in their order: rights go to roles that are there."""
OUTSIDE = """
SELECT set_config('search_path', coalesce(string_agg(quote_ident(s), ', '), 'public'), true)
FROM unnest(current_schemas(false)) s WHERE s <> 'unitask'
"""
"""Tables never lie in the schema of the functions, which goes with all that is in it; for a login of that name Postgres
would put it first.
"""

VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
"""

logger = logging.getLogger(__name__)


def upgrade(url: str) -> None:
    """Migrate the database at `url` (SQLAlchemy, psycopg); safe to repeat, also from several processes at once."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(OUTSIDE))
            _wait_for_turn(connection)
            config = Config()
            config.set_main_option("script_location", str(HERE / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _replace_functions(connection)
    finally:
        engine.dispose()


def _wait_for_turn(connection: Connection) -> None:
    """Lock the table of Alembic's to the end of the transaction: of two that migrate at once, one waits for the other.

    No advisory lock, which every login can take.
    """
    try:
        with connection.begin_nested():
            connection.execute(text(VERSION_TABLE))
    except IntegrityError:
        # The other one made the table meanwhile, and has ended.
        logger.debug("another process has migrated")
    connection.execute(text("LOCK TABLE alembic_version IN SHARE ROW EXCLUSIVE MODE"))


def is_current(engine: Engine) -> bool:
    """Whether `upgrade` would find nothing to do."""
    newest = ScriptDirectory(str(HERE / "migrations")).get_current_head()
    with engine.connect() as connection:
        connection.execute(text(OUTSIDE))
        if MigrationContext.configure(connection).get_current_revision() != newest:
            return False
        return _stored_digest(connection) == _digest(connection, _sources())


def function_files(folder: Path = HERE / "sql" / "functions") -> dict[str, Path]:
    """Return the file of each function by the function's name. Raises `ValueError` when two files have one name."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.sql")):
        if other := files.get(path.stem):
            raise ValueError(f"two files define `unitask.{path.stem}`: {other} and {path}; rename one of the functions")
        files[path.stem] = path
    return files


def _sources() -> list[str]:
    sql = HERE / "sql"
    policies = [sql / "policies" / f"{name}.sql" for name in POLICIES]
    files = [sql / "domains.sql", *function_files().values(), *sorted((sql / "triggers").glob("*.sql")), *policies]
    return [path.read_text() for path in files]


def _stored_digest(connection: Connection) -> str | None:
    found: str | None = connection.scalar(
        text("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'unitask'")
    )
    return found


def _replace_functions(connection: Connection) -> None:
    sources = _sources()
    # Roles that came since the last time get their rights.
    if _stored_digest(connection) == _digest(connection, sources):
        return
    connection.execute(text("DROP SCHEMA IF EXISTS unitask CASCADE"))
    connection.execute(text("CREATE SCHEMA unitask"))
    # The files come in the order of their names, not of their calls.
    connection.execute(text("SET LOCAL check_function_bodies = off"))
    for source in sources:
        connection.exec_driver_sql(source.replace("%", "%%"))
    if missing := set(ROLES) - set(_roles(connection)):
        logger.warning(
            "this Postgres user may not make roles, so there are no %s: only the owner can use this database. Ask its "
            "administrator for the roles and migrate again, or go on without them",
            ", ".join(sorted(missing)),
        )
    connection.execute(text(f"COMMENT ON SCHEMA unitask IS '{_digest(connection, sources)}'"))


def _digest(connection: Connection, sources: list[str]) -> str:
    return hashlib.sha256("\0".join([*sources, *_roles(connection)]).encode()).hexdigest()


def _roles(connection: Connection) -> list[str]:
    found = text("SELECT rolname FROM pg_roles WHERE rolname = ANY (:names) ORDER BY rolname")
    return list(connection.scalars(found, {"names": list(ROLES)}))
