"""What a database of this version lets whom call, read and change, as one text that people can read.

The text of a freshly migrated database is kept in db/sql/signatures_and_grants.txt, so that a change of a signature or
a right is seen where it is reviewed. `python -m db.signatures` writes it anew, with a Postgres of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import fill

from sqlalchemy import Connection, Row, create_engine, text

from db import embedded
from db.migrate import function_files, upgrade

FILE = Path(__file__).parent / "sql" / "signatures_and_grants.txt"
HEADER = """\
Every function of the schema `unitask`, and the rights of every role, as a migrated database has them.
Made by `python -m db.signatures`; a test compares it with a database. The user who migrates may do everything and is
not listed. "security definer": runs with the rights of the user who migrated, whoever calls.
"""
FUNCTIONS = """
SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
       CASE WHEN p.prosecdef THEN 'security definer' ELSE 'security invoker' END AS security,
       coalesce(p.proconfig, '{}') AS settings,
       ARRAY(SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END COLLATE "C"
             FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
             WHERE a.grantee <> p.proowner ORDER BY 1) AS callers
FROM pg_proc p WHERE p.pronamespace = 'unitask'::regnamespace
"""
RIGHTS = """
WITH relations AS (
    SELECT c.oid, c.relname, c.relowner, c.relacl FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
),
rights AS (
    SELECT r.relname, a.grantee, a.privilege_type AS name, NULL AS columns
    FROM relations r CROSS JOIN LATERAL aclexplode(r.relacl) a WHERE a.grantee <> r.relowner
    UNION ALL
    SELECT r.relname, a.grantee, a.privilege_type, string_agg(c.attname, ', ' ORDER BY c.attname)
    FROM relations r JOIN pg_attribute c ON c.attrelid = r.oid AND c.attnum > 0
    CROSS JOIN LATERAL aclexplode(c.attacl) a
    WHERE a.grantee <> r.relowner GROUP BY 1, 2, 3
)
SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, relname AS relation,
       string_agg(name || coalesce(' (' || columns || ')', ''), ', ' ORDER BY name COLLATE "C", columns) AS rights
FROM rights GROUP BY 1, 2
"""
ROWS = """
SELECT string_agg(polrelid::regclass::text, ', ' ORDER BY polrelid::regclass::text COLLATE "C") AS tables,
       CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
            ELSE 'ALL' END AS command,
       array_to_string(ARRAY(SELECT r::regrole::text COLLATE "C" FROM unnest(polroles) r ORDER BY 1), ', ') AS roles,
       coalesce(regexp_replace(pg_get_expr(polqual, polrelid), '\\s+', ' ', 'g'), 'true') AS condition
FROM pg_policy GROUP BY 2, 3, 4
"""


def describe(connection: Connection) -> str:
    """Return the signatures and rights in the database of `connection`."""
    lines = [*_functions(connection), *_tables(connection), *_rows(connection)]
    wrapped = (fill(line, 120, subsequent_indent="        ", break_long_words=False) for line in lines)
    return "\n".join([HEADER, *wrapped])


def _functions(connection: Connection) -> Iterator[str]:
    folders = {name: path.parent.name for name, path in function_files().items()}

    def folder(function: Row[tuple[str, ...]]) -> str:
        return f"functions/{folders[function.name]}" if function.name in folders else "triggers"

    found = sorted(connection.execute(text(FUNCTIONS)), key=lambda row: (folder(row), row.name, row.arguments))
    for name, functions in groupby(found, folder):
        yield from (f"## {name}", "")
        for function in functions:
            yield f"{function.name}({function.arguments}) -> {function.result}"
            yield f"    {', '.join([function.volatility, function.security, *function.settings])}"
            yield from (f"    called by: {', '.join(function.callers) or 'other functions only'}", "")


def _tables(connection: Connection) -> Iterator[str]:
    found = sorted(connection.execute(text(RIGHTS)), key=lambda row: (row.role, row.relation))
    for role, tables in groupby(found, lambda row: row.role):
        yield from (f"## Rights of {role} on tables", "")
        yield from (f"{table.relation}: {table.rights}" for table in tables)
        yield ""


def _rows(connection: Connection) -> Iterator[str]:
    yield from ("## Rows that a role's rights extend to (none, where no line names role and table)", "")
    for row in sorted(connection.execute(text(ROWS)), key=lambda row: (row.roles, row.tables)):
        yield f"{row.roles}, {row.command}: where {row.condition} in {row.tables}"
    yield ""


def main() -> None:
    """Write the file anew from a database that is migrated for this and thrown away."""
    with tempfile.TemporaryDirectory(prefix="unitask-signatures-") as folder:
        home = Path(folder)
        try:
            url = embedded.ensure_database(embedded.start(home), "signatures")
            upgrade(url)
            engine = create_engine(url)
            with engine.connect() as connection:
                FILE.write_text(describe(connection))
            engine.dispose()
        finally:
            embedded.stop(home)


if __name__ == "__main__":
    main()
