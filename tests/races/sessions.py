"""Two sessions that meet at one statement, crowds of threads, and rows to meet over."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import TaskError
from tasks_lib.queue import ClaimedTask, Lease
from tests.conftest import Owner

T = TypeVar("T")
Call = partial[list[dict[str, Any]]]
"""A call of one SQL function, to be made in a transaction of its own or in one that stays open."""

WAIT_SECONDS = 30


def call(function: str, **arguments: Any) -> Call:
    """The call of an SQL function, not made yet."""
    return partial(database.call, function, **arguments)


def create_rows(project_id: UUID, count: int = 1, **row: Any) -> Call:
    """The call that stores `count` leaf tasks of the gpu pool."""
    rows = [{"task_type": "travel_segment", "project_id": str(project_id), **row}] * count
    return call("create_tasks", p_rows=json.dumps(rows, default=str))


def make_tasks(owner: Owner, count: int = 1, **row: Any) -> list[UUID]:
    """`count` leaf tasks of the gpu pool that have no parameters; `row` is as in create_tasks.sql."""
    return [answer["task_id"] for answer in create_rows(owner.project_id, count, **row)()]


def make_family(owner: Owner, keys: Sequence[str], last: str | None = None, **child: Any) -> ClaimedTask:
    """A hosted parent with planted children; `last` waits for all the others."""
    call("create_tasks", p_rows=json.dumps([parent_row(owner)]))()
    parent = claim("api", hosted=True)[0]
    plant(parent.lease, owner, keys, last, **child)()
    return parent


def parent_row(owner: Owner) -> dict[str, Any]:
    """An orchestrator's row."""
    return {"task_type": "travel_orchestrator", "project_id": str(owner.project_id)}


def plant(lease: Lease, owner: Owner, keys: Sequence[str], last: str | None = None, **child: Any) -> Call:
    """The call that plants an orchestrator's children."""
    base = {
        "task_type": "travel_segment",
        "project_id": str(owner.project_id),
        "parent_task_id": str(lease.task_id),
        **child,
    }
    rows = [{**base, "child_key": key} for key in keys]
    if last:
        rows.append({**base, "child_key": last, "depends_on": [{"index": i} for i in range(len(keys))]})
    return call("plant_children", p_task_id=lease.task_id, p_lease_id=lease.lease_id, p_rows=json.dumps(rows))


def claim(run_type: str = "gpu", worker: str = "worker", limit: int = 10, **arguments: Any) -> list[ClaimedTask]:
    """Claim by the SQL function itself, whose every parameter can be set here."""
    return [ClaimedTask(**row) for row in claiming(run_type, worker, limit, **arguments)()]


def claiming(run_type: str = "gpu", worker: str = "worker", limit: int = 10, **arguments: Any) -> Call:
    """The call that claims."""
    named = {f"p_{name}": value for name, value in arguments.items()}
    return call(
        "claim_tasks", p_run_type=run_type, p_worker_id=worker, p_limit=limit, **{"p_lease_seconds": 60.0, **named}
    )


def completing(lease: Lease) -> Call:
    """The call that completes a task with an output."""
    return call(
        "complete_task",
        p_task_id=lease.task_id,
        p_lease_id=lease.lease_id,
        p_output_location="film.mp4",
        p_result="{}",
        p_cost=Decimal("0.5"),
    )


def cancelling(task_id: UUID) -> Call:
    """The call that cancels a task and all below it."""
    return call("cancel_task", p_task_id=task_id, p_reason="not wanted")


def meet(first: Call | sa.Executable, second: Call, *, first_is_undone: bool = False) -> Any:
    """Make the second call while the first one's transaction is open, then end that; answer what the second gave.

    The second is given time to run into the first one's locks. An error of the library is answered, not raised.
    """
    with database.get_engine().connect() as connection, ThreadPoolExecutor(1) as pool:
        transaction = connection.begin()
        with database.translated():
            if isinstance(first, partial):
                database.call_in(connection, *first.args, **first.keywords)
            else:
                connection.execute(first)
        outcome = pool.submit(answer_of, second)
        wait_until(lambda: outcome.done() or blocked_sessions() > 0)
        if first_is_undone:
            transaction.rollback()
        else:
            transaction.commit()
        return outcome.result(WAIT_SECONDS)


def answer_of(function: Callable[[], T]) -> T | TaskError:
    """What a call gives, or the error of the library that it raised."""
    try:
        return function()
    except TaskError as error:
        return error


def at_once(functions: Sequence[Callable[[], T]]) -> list[T | TaskError]:
    """Run functions in threads that start together; answers in the order of the functions."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], T]) -> T | TaskError:
        barrier.wait(WAIT_SECONDS)
        return answer_of(function)

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))


def blocked_sessions() -> int:
    """How many sessions of this database wait for another one's lock."""
    statement = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    with database.transaction() as connection:
        return int(connection.execute(statement).scalar_one())


def wait_until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    """Wait for a condition, with a limit."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)


def deadlocks() -> int:
    """How many dead-locks Postgres has had to break in this database."""
    with database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
        statement = sa.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(connection.execute(statement).scalar_one())


def row_of(task_id: UUID) -> Any:
    """A task's row."""
    with database.transaction() as connection:
        return connection.execute(sa.select(tables.tasks).where(tables.tasks.c.id == task_id)).one()


def statuses(task_ids: Sequence[UUID]) -> list[str]:
    """The statuses of tasks, in their order."""
    return [row_of(task_id).status for task_id in task_ids]


def change(task_id: UUID, **values: Any) -> None:
    """Set columns of a task's row by hand: times, mostly."""
    with database.transaction() as connection:
        connection.execute(sa.update(tables.tasks).where(tables.tasks.c.id == task_id).values(**values))


def expire(task_id: UUID) -> None:
    """Let a task's lease have run out a second ago."""
    change(task_id, leased_until=sa.text("clock_timestamp() - interval '1 second'"))


def everything() -> dict[str, list[Any]]:
    """All that a task's end may touch, to compare before and after."""
    watched = (
        tables.tasks,
        tables.task_dependencies,
        tables.task_progress,
        tables.task_events,
        tables.generations,
        tables.generation_variants,
        tables.credit_ledger,
    )
    with database.transaction() as connection:
        return {
            table.name: list(connection.execute(sa.select(table).order_by(*table.primary_key.columns)))
            for table in watched
        }


@contextmanager
def nothing_changes() -> Iterator[None]:
    """No row of any table may differ after the block."""
    before = everything()
    yield
    assert everything() == before


def check_ledger() -> None:
    """Each life of a final task has settled its hold once; each that goes on has an open one; no other rows."""
    assert database.call("ledger_faults") == []
