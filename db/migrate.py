"""Bring a database to the schema of this version: Alembic for tables, then the SQL files for the rest.

Functions and triggers live in the schema `unitask`, one file each under db/sql, and are dropped and made anew as
one set whenever a file changes. So "what is the claim rule today?" has one answer: the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

HERE = Path(__file__).parent


def upgrade(url: str) -> None:
    """Migrate the database at `url` (SQLAlchemy, psycopg); safe to repeat, also from several processes at once."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            # Two processes that start together would both create the first table.
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('unitask.migrate', 0))"))
            config = Config()
            config.set_main_option("script_location", str(HERE / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _replace_functions(connection)
    finally:
        engine.dispose()


def _replace_functions(connection: Connection) -> None:
    files = sorted((HERE / "sql" / "functions").glob("*.sql")) + sorted((HERE / "sql" / "triggers").glob("*.sql"))
    sources = [path.read_text() for path in files]
    digest = hashlib.sha256("\0".join(sources).encode()).hexdigest()
    current = connection.scalar(
        text("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'unitask'")
    )
    if current == digest:
        return
    connection.execute(text("DROP SCHEMA IF EXISTS unitask CASCADE"))
    connection.execute(text("CREATE SCHEMA unitask"))
    # The files come in the order of their names, not of their calls.
    connection.execute(text("SET LOCAL check_function_bodies = off"))
    for source in sources:
        connection.exec_driver_sql(source.replace("%", "%%"))
    connection.execute(text(f"COMMENT ON SCHEMA unitask IS '{digest}'"))
