"""Every function of the database × every role that may call it × wrong values for each argument, from the signatures.

A new function, or a new argument, is tried here without a line more; one of a plain type fails the first test.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from tasks_lib import create_task, database, queue
from tests.conftest import Owner
from tests.logins import login

ROLES = ("unitask_gateway", "unitask_worker", "unitask_reader")
PLAIN = {"uuid", "boolean"}
"""Every value of these has a meaning: an id that is nobody's is answered as a missing one."""
SIGNATURES = """
SELECT p.proname AS function, a.name, t.typname AS type,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS base
FROM pg_proc p
CROSS JOIN LATERAL unnest(p.proargtypes, p.proargnames[1:p.pronargs]) WITH ORDINALITY AS a(type, name, place)
JOIN pg_type t ON t.oid = a.type
WHERE p.pronamespace = 'unitask'::regnamespace AND p.prorettype <> 'trigger'::regtype
  AND has_function_privilege(CAST(:role AS text), p.oid, 'EXECUTE')
ORDER BY p.proname, a.place
"""
TEXTS = ["''", "'" + "x" * 20_000 + "'", "'../../etc/passwd'", "'nonsense' || chr(10)", "NULL"]
NUMBERS = ["-1", "-2147483648", "2147483647", "NULL"]
FRACTIONS = ["-1", "'NaN'", "'Infinity'", "'-Infinity'", "1e15", "NULL"]
WRONG = {
    "uuid": ["NULL", "gen_random_uuid()"],
    "boolean": ["NULL"],
    "text": TEXTS,
    "integer": NUMBERS,
    "bigint": ["-1", "0", "9223372036854775807", "NULL"],
    "double precision": FRACTIONS,
    "numeric": [*FRACTIONS, "1e300"],
    "uuid[]": [
        "NULL",
        "ARRAY[NULL]::uuid[]",
        "array_fill(gen_random_uuid(), ARRAY[20001])",
        "'{{" + f"{uuid4()}" + "}}'",
    ],
    "bigint[]": ["NULL", "ARRAY[NULL]::bigint[]", "array_fill(1::bigint, ARRAY[20001])", "ARRAY[1, 2, 3]::bigint[]"],
    "text[]": ["NULL", "ARRAY[NULL]::text[]", "array_fill('x'::text, ARRAY[2001])", "ARRAY[repeat('x', 500000)]"],
    "jsonb": ["NULL", "'null'", "'[]'", "'{}'", "'5'", "'[null]'", "'[5]'", "'[[]]'", "to_jsonb(repeat('x', 5000000))"],
}
MUST_REFUSE = {
    "text": "repeat('x', 20000)",
    "integer": "-1",
    "bigint": "-1",
    "double precision": "'NaN'",
    "numeric": "-1",
    "uuid[]": "ARRAY[NULL]::uuid[]",
    "bigint[]": "ARRAY[NULL]::bigint[]",
    "text[]": "ARRAY[NULL]::text[]",
    "jsonb": "'5'",
}
"""What no argument of a kind may be, in any function."""
EXPECTED = {"23514", "UT001", "UT002", "UT003", "UT004", "UT005", "UT006"}
"""A range, or a reason of ours: whatever else comes is a mistake of the function's."""
INVARIANTS = """
SELECT (SELECT coalesce(sum(amount), 0) FROM credit_ledger WHERE kind = 'grant'),
       (SELECT count(*) FROM tasks WHERE status = 'Complete'),
       (SELECT count(*) FROM credit_ledger c JOIN credit_ledger h USING (task_id, life)
        WHERE h.kind = 'hold' AND c.kind IN ('capture', 'release') AND c.amount > -h.amount),
       (SELECT count(*) FROM tasks WHERE status = 'Processing' AND NOT leased_until < now() + interval '2 days'),
       (SELECT count(*) FROM provider_pauses WHERE NOT paused_until < now() + interval '2 hours')
"""


@dataclass(frozen=True)
class Argument:
    """One argument of a function, with its type and what that is based on."""

    name: str
    type: str
    base: str


def functions(role: str) -> dict[str, list[Argument]]:
    """What a role may call, and with which arguments."""
    with database.transaction() as connection:
        rows = connection.execute(sa.text(SIGNATURES), {"role": role}).all()
    return {
        name: [Argument(row.name, row.type, row.base) for row in arguments]
        for name, arguments in itertools.groupby(rows, lambda row: str(row.function))
    }


@pytest.mark.parametrize("role", ROLES)
def test_type_of_an_argument_has_a_range_when_a_role_may_call_the_function(database_url: str, role: str) -> None:
    plain = {f"{n}({a.name} {a.type})" for n, given in functions(role).items() for a in given if a.type == _plain(a)}
    assert plain == set(), "give it a type of db/sql/domains.sql"


def _plain(argument: Argument) -> str | None:
    names = {"double precision": "float8", "integer": "int4", "bigint": "int8", "boolean": "bool"}
    names |= {f"{base}[]": f"_{names.get(base, base)}" for base in ("uuid", "bigint", "text")}
    return None if argument.base in PLAIN else names.get(argument.base, argument.base)


@pytest.mark.parametrize("role", ROLES)
def test_range_of_a_type_excludes_what_never_has_a_meaning(database_url: str, role: str) -> None:
    kinds = {(a.type, a.base) for given in functions(role).values() for a in given if a.base not in PLAIN}
    with database.transaction() as connection:
        for type_, base in kinds:
            with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
                connection.execute(sa.text(f"SELECT ({MUST_REFUSE[base]})::unitask.{type_}"))


@pytest.fixture
def good(owner: Owner) -> dict[str, str]:
    """A value for every argument that a call would take, of a claimed task with a hold."""
    database.call("grant_credits", p_user_id=owner.user_id, p_amount=100, p_reason="a test")
    create_task("z_image_turbo", {"prompt": "a"}, project_id=owner.project_id)
    (task,) = queue.claim("gpu", "worker") or queue.claim("api", "worker")
    return {
        "p_task_id": f"'{task.id}'",
        "p_lease_id": str(task.lease_id),
        "p_ids": f"ARRAY['{task.id}']::uuid[]",
        "p_task_ids": f"ARRAY['{task.id}']::uuid[]",
        "p_lease_ids": f"ARRAY[{task.lease_id}]::bigint[]",
        "p_user_id": f"'{owner.user_id}'",
        "p_project_id": f"'{owner.project_id}'",
        "p_run_type": "'gpu'",
        "p_account": "'fal'",
        "p_state": "'failed'",
        "p_result": "'{}'",
        "p_limits": "'{}'",
    }


OF_A_TYPE = {
    "uuid": "gen_random_uuid()",
    "boolean": "false",
    "text": "'x'",
    "integer": "1",
    "bigint": "1",
    "double precision": "1",
    "numeric": "0",
    "text[]": "ARRAY['x']",
    "jsonb": "'[]'",
}


@contextmanager
def session(role: str) -> Iterator[psycopg.Connection[Any]]:
    with login(database.database_url(), role) as url:
        plain = sa.make_url(url).set(drivername="postgresql").render_as_string(False)
        with psycopg.connect(plain, autocommit=True) as connection:
            yield connection


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_stored_and_a_reason_is_said_when_any_argument_is_wrong(
    owner: Owner, good: dict[str, str], role: str
) -> None:
    """Each wrong value alone, in a call that is right otherwise, and each kind of call all wrong at once."""
    complaints = []
    signatures = functions(role)
    with session(role) as connection:
        before = _invariants()
        for function, arguments in signatures.items():
            right = {a.name: good.get(a.name) or OF_A_TYPE[a.base] for a in arguments}
            calls = [right | {a.name: wrong} for a in arguments for wrong in WRONG[a.base]]
            calls.append({a.name: "NULL" for a in arguments})
            for call in calls:
                given = ", ".join(f"{name} => {value}" for name, value in call.items())
                try:
                    with connection.transaction(force_rollback=True):
                        connection.execute(f"SELECT * FROM unitask.{function}({given})".encode())
                        # What a call that passes leaves behind, seen as the owner's triggers and checks see it.
                        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                except psycopg.Error as error:
                    if error.sqlstate not in EXPECTED:
                        complaints.append(f"{function}({given:.300}): {error.sqlstate} {error}")
        assert _invariants() == before
    assert complaints == []


def _invariants() -> tuple[Any, ...]:
    with database.transaction() as connection:
        return tuple(connection.execute(sa.text(INVARIANTS)).one())


def test_every_argument_is_tried_with_something_wrong() -> None:
    assert set(WRONG) == {*MUST_REFUSE, *PLAIN}
