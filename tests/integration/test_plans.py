"""The plans that Postgres makes for the claim itself, as it runs, in a full table; and that fullness costs nothing."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

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


@LONG
def test_claim_is_as_fast_as_in_an_empty_table_when_a_million_are_finished(database_url: str) -> None:
    claims = 1_000
    fill(finished=0, pending=4 * claims, users=10)
    best_empty = max(measure(claims) for _ in range(3))
    with database.transaction() as connection:
        connection.execute(sa.text("TRUNCATE users CASCADE"))
    fill(finished=1_000_000, pending=50_000, users=10)
    with database.get_engine().connect() as connection:
        check_plans(claim_with_plans(connection))
    best_full = max(measure(claims) for _ in range(3))
    print(f"claims/s: empty {best_empty:.0f}, full {best_full:.0f}, ratio {best_full / best_empty:.2f}")
    assert best_full >= 0.9 * best_empty
