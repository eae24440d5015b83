"""The plans that Postgres makes for the claim itself, as it runs, in a full table; and that fullness costs nothing."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from db import embedded
from db.engine import create_engine
from db.migrate import upgrade
from tasks_lib import database
from tests.benchmarks.claim import fill, measure
from tests.races.sessions import claiming

LONG = pytest.mark.skipif("UNITASK_TEST_LONG" not in os.environ, reason="takes minutes; `make property` runs it")


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's nodes, itself first."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes_of(child))]


def claim_with_plans(connection: Connection, **arguments: Any) -> list[dict[str, Any]]:
    """Claim one task, and answer every node of every plan that this took."""
    messages: list[str] = []
    driver: Any = connection.connection.dbapi_connection
    driver.add_notice_handler(lambda diagnosis: messages.append(diagnosis.message_primary))
    try:
        connection.exec_driver_sql("LOAD 'auto_explain'")
    except sa.exc.DBAPIError:
        pytest.skip("this server cannot load auto_explain")
    for setting in ("log_min_duration = 0", "log_analyze = on", "log_nested_statements = on", "log_format = json"):
        connection.exec_driver_sql(f"SET LOCAL auto_explain.{setting}")
    connection.exec_driver_sql("SET LOCAL client_min_messages = log")
    call = claiming(limit=1, **arguments)
    assert len(database.call_in(connection, *call.args, **call.keywords)) == 1
    plans = [json.loads(text[text.index("{") :])["Plan"] for text in messages if "plan:" in text]
    return [node for plan in plans for node in nodes_of(plan)]


def check_plans(nodes: list[dict[str, Any]]) -> None:
    of_tasks = [node for node in nodes if node.get("Relation Name") == "tasks" and node["Node Type"] != "ModifyTable"]
    assert {node["Node Type"] for node in of_tasks} <= {"Index Scan", "Index Only Scan"}
    assert {node["Index Name"] for node in of_tasks} >= {"ix_tasks_claim", "ix_tasks_claimed", "ix_tasks_leased"}
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in of_tasks)
    assert read < 200, f"one claim read {read} rows"


@pytest.mark.parametrize("models", [[], ["model-1"]])
def test_claim_reads_few_rows_by_its_index_when_fifty_thousand_are_pending(
    database_url: str, models: list[str]
) -> None:
    with database.get_engine().connect() as connection:
        # Planned while the table is empty, as by a worker that was there first.
        call = claiming(limit=1)
        for _ in range(6):
            assert database.call_in(connection, *call.args, **call.keywords) == []
        connection.commit()
        fill(finished=20_000, pending=50_000, users=40)
        check_plans(claim_with_plans(connection, models=models))


@pytest.fixture
def another(database_url: str) -> Iterator[Engine]:
    """A second tasks database, on the same server."""
    name = f"{sa.make_url(database_url).database}_b"
    url = embedded.ensure_database(database_url, name)
    upgrade(url)
    engine = create_engine(url)
    yield engine
    engine.dispose()
    with database.get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@LONG
def test_claim_is_as_fast_as_in_an_empty_table_when_a_million_are_finished(another: Engine) -> None:
    """In turns, on one server: its disk, its checkpoints and the machine's other load then meet both alike."""
    claims, rounds, before = 250, 12, 4_000
    full = database.get_engine()
    fill(finished=0, pending=before + 2 * claims * rounds, users=10, engine=another)
    fill(finished=1_000_000, pending=50_000 + before + claims * rounds, users=10)
    with full.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Else the server goes on for minutes to write what filling has left, and how far it is would be chance.
        connection.execute(sa.text("CHECKPOINT"))
    with full.connect() as connection:
        check_plans(claim_with_plans(connection))
    # The first change of a page after a checkpoint is written to the log with the whole page, and a million rows have
    # many pages: that is over long before the next checkpoint, five minutes later. Both alike, for each claim leaves a
    # dead row behind, which the next ones step over.
    measure(before, engine=another)
    measure(before)
    pairs = [(measure(claims, engine=another), measure(claims)) for _ in range(rounds)]
    empty_rate, full_rate = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    print(f"claims/s: empty {empty_rate:.0f}, full {full_rate:.0f}, ratio {full_rate / empty_rate:.2f}")
    assert full_rate >= 0.9 * empty_rate
