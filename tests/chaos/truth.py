"""What must be true when all has come to rest: rows, the runs and nodes that show them, the books, the schedules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.queue.watching import child_name
from tests.chaos.people import People, Row

STATES = {"Complete": "COMPLETED", "Failed": "FAILED", "Cancelled": "CANCELLED"}
ENDED = {*STATES.values(), "CRASHED"}
PAGE = 200


def open_tasks() -> int:
    """How many tasks have not ended."""
    t = tables.tasks
    with database.transaction() as connection:
        statement = sa.select(sa.func.count()).where(t.c.status.in_(("Pending", "Processing")))
        return connection.execute(statement).scalar_one()


def disagreements(people: People) -> list[str]:
    """Where Prefect shows something else than the rows, or has a run open, or a planned time has no report."""
    return [*_runs(people), *_planned_times(people)]


def _runs(people: People) -> Iterator[str]:
    t = tables.tasks
    with database.transaction() as connection:
        rows = connection.execute(sa.select(t)).all()
    # A run that was triggered may have waited for its pool, and make its task only now.
    yield from (f"task {row.id} is {row.status}" for row in rows if row.status not in STATES)
    hosted = {str(row.flow_run_id): row for row in rows if row.flow_run_id}
    children: dict[UUID, dict[str, str]] = {}
    for row in rows:
        if row.parent_task_id:
            name = child_name(row.task_type, row.child_key, row.id)
            children.setdefault(row.parent_task_id, {})[name] = row.status
    runs = _all_runs(people)
    for run_id, row in hosted.items():
        if run_id not in runs:
            if run_id not in people.deleted:
                yield f"the run {run_id} of task {row.id} is gone"
            continue
        run = runs[run_id]
        if run["state_type"] != STATES.get(row.status):
            yield f"task {row.id} is {row.status}, and its run {run_id} {run['state_type']}: {run['state']['message']}"
        yield from _nodes(people, run_id, children.get(row.id, {}))
    made = Counter(str(row.made_by_run_id) for row in rows if row.made_by_run_id and row.parent_task_id is None)
    for run_id in {*runs} & {*people.triggered}:
        state = runs[run_id]["state_type"]
        if state not in ENDED:
            yield f"the triggered run {run_id} is {state}: {runs[run_id]['state']['message']}"
        if made[run_id] > 1 or (state == "COMPLETED" and not made[run_id]):
            yield f"the triggered run {run_id} is {state} and made {made[run_id]} tasks"


def _nodes(people: People, run_id: str, children: dict[str, str]) -> Iterator[str]:
    body = {"flow_runs": {"id": {"any_": [run_id]}}}
    for node in people.call("POST", "/task_runs/filter", body):
        expected = STATES.get(children.get(node["name"], ""))
        if expected is not None and node["state_type"] != expected:
            yield f"the node {node['name']} of run {run_id} is {node['state_type']}, and its row {expected}"
        elif node["state_type"] not in ENDED:
            yield f"the node {node['name']} of run {run_id} is {node['state_type']}"


def _planned_times(people: People) -> Iterator[str]:
    runs = _all_runs(people, "scheduled-batch")
    planned: dict[tuple[str, str], list[Row]] = {}
    for run in runs.values():
        if run["idempotency_key"] and run["expected_start_time"]:
            at = run["expected_start_time"][:19]
            planned.setdefault((_schedule_of(run), at), []).append(run)
    for spell in people.spells:
        for at in spell.times():
            found = planned.get((spell.schedule_id, at.isoformat()[:19]), [])
            if [run["state_type"] for run in found] not in (["COMPLETED"], ["CANCELLED"]):
                told = [(run["id"], run["state_name"], run["state"]["message"]) for run in found]
                yield f"the time {at} of schedule {spell.schedule_id} has {told or 'no report'}"


def _schedule_of(run: Row) -> str:
    # As Prefect's scheduler writes it: scheduled <deployment> <schedule> <time>.
    return str(run["idempotency_key"]).split(" ")[2]


def _all_runs(people: People, *names: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    flows = {"flows": {"name": {"any_": list(names)}}} if names else {}
    while page := people.call(
        "POST", "/flow_runs/filter", {"limit": PAGE, "offset": len(found), "sort": "ID_DESC"} | flows
    ):
        found |= {run["id"]: run for run in page}
    return found


def check_rows(user_id: UUID, created: Sequence[UUID], people: People) -> dict[str, int]:
    """Nothing lost, no output twice, the ledger level. Answers how the tasks ended."""
    t, v = tables.tasks, tables.generation_variants
    with database.transaction() as connection:
        roots = connection.execute(
            sa.select(t.c.id, t.c.task_type, t.c.made_by_run_id).where(t.c.parent_task_id.is_(None))
        ).all()
        of_runs = Counter(str(row.made_by_run_id) for row in roots if row.made_by_run_id)
        others = [row.id for row in roots if row.task_type == "travel_orchestrator" and not row.made_by_run_id]
        assert sorted(others) == sorted(created), "a travel is lost or was made twice"
        assert {run_id for run_id in of_runs if run_id in people.triggered and of_runs[run_id] != 1} == set()
        outputs = Counter(connection.scalars(sa.select(v.c.task_id)))
        leaves = connection.execute(sa.select(t.c.id, t.c.status).where(~t.c.hosted)).all()
        assert outputs == Counter(row.id for row in leaves if row.status == "Complete"), (
            "an output is lost or twice there"
        )
        assert database.call_in(connection, "ledger_faults") == []
        held: Any = connection.execute(sa.text("SELECT sum(held) FROM unitask.credit_accounts()")).scalar_one()
        assert not held, f"{held} are still held"
        total = connection.execute(sa.select(sa.func.sum(tables.credit_ledger.c.amount))).scalar_one()
        assert total == connection.execute(sa.select(sa.func.unitask.balance(user_id))).scalar_one()
        ends = connection.execute(sa.select(t.c.status, sa.func.count()).group_by(t.c.status))
        return {row[0]: row[1] for row in ends}
