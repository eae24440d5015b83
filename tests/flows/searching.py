"""Where a secret lies: every table of every database of the platform's server, and every file under its home."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tasks_lib import database

TABLES = """
    SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
FOUND = """
    SELECT secret FROM unnest(CAST(:secrets AS text[])) secret
    WHERE EXISTS (SELECT FROM {} t WHERE strpos(t::text, secret) > 0)
"""


def tables_with(secrets: Collection[str]) -> set[tuple[str, str]]:
    """The secrets that stand in some row of our database or of Prefect's, each with its table."""
    found = set()
    server = sa.make_url(database.database_url())
    for name in _column(server, "SELECT datname FROM pg_database WHERE NOT datistemplate"):
        inside = server.set(database=name)
        for table in _column(inside, TABLES):
            hits = _column(inside, FOUND.format(table), secrets=list(secrets))
            found |= {(secret, f"{name}.{table}") for secret in hits}
    return found


def files_with(secrets: Collection[str], home: Path) -> set[tuple[str, str]]:
    """The secrets that stand in some file, each with its file; those of Postgres itself were read as tables."""
    found = set()
    for path in home.rglob("*"):
        if path.is_file() and "postgres/data" not in path.as_posix():
            content = path.read_bytes()
            found |= {(secret, str(path.relative_to(home))) for secret in secrets if secret.encode() in content}
    return found


def _column(url: sa.URL, statement: str, **values: Any) -> list[Any]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement), values).scalars())
