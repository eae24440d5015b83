"""How fast the claim is, with fairness, priorities and affinity, in an empty table and in a full one."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

import sqlalchemy as sa

from db import embedded, tables
from db.migrate import upgrade
from tasks_lib import database
from tasks_lib.settings import get_settings

FINISHED = """
INSERT INTO tasks (project_id, user_id, task_type, run_type, params, status, lease_id, attempt, created_at, claimed_at,
                   started_at, finished_at, output_location)
SELECT p.id, p.user_id, 'travel_segment', 'gpu', '{"prompt": "a walk"}', 'Complete', 1, 1, at, at, at, at, 'film.mp4'
FROM (SELECT id, user_id, row_number() OVER () - 1 AS n FROM projects) p
JOIN (SELECT i, now() - i * interval '1 second' AS at FROM generate_series(1, :count) i) s
  ON s.i % (SELECT count(*) FROM projects) = p.n
"""
PENDING = """
INSERT INTO tasks (project_id, user_id, task_type, run_type, params, priority, model, created_at)
SELECT p.id, p.user_id, 'travel_segment', 'gpu', '{"prompt": "a walk"}', i % 3, 'model-' || i % 4,
       now() + i * interval '1 microsecond'
FROM (SELECT id, user_id, row_number() OVER () - 1 AS n FROM projects) p
JOIN generate_series(1, :count) i ON i % (SELECT count(*) FROM projects) = p.n
"""


AT_ONCE = 50
"""Tasks that run at a time, at most, while claims are measured: a claim counts them."""


def fill(*, finished: int, pending: int, users: int, engine: sa.Engine | None = None) -> None:
    """Make users, each with a project, and spread finished and pending tasks over them."""
    engine = engine or database.get_engine()
    with engine.begin() as connection:
        # Triggers and foreign keys would take most of the time, and hold here by construction.
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for i in range(users):
            user_id = uuid4()
            connection.execute(sa.insert(tables.users).values(id=user_id, name=f"user {i}"))
            connection.execute(sa.insert(tables.projects).values(user_id=user_id, name="a project"))
        connection.execute(sa.text(FINISHED), {"count": finished})
        connection.execute(sa.text(PENDING), {"count": pending})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE tasks"))


def measure(claims: int, *, models: tuple[str, ...] = (), engine: sa.Engine | None = None) -> float:
    """Claims of one task each in a second, by one session.

    Off the clock, what was claimed is completed before more than `AT_ONCE` run: a claim reads every live lease, and a
    session that never ends one measures how many it has made.
    """
    engine = engine or database.get_engine()
    seconds = 0.0
    for done in range(0, claims, AT_ONCE):
        block = min(AT_ONCE, claims - done)
        start = time.perf_counter()
        held = [_claim(engine, models) for _ in range(block)]
        seconds += time.perf_counter() - start
        with engine.begin() as connection:
            for task_id, lease_id in held:
                database.call_in(
                    connection,
                    "complete_task",
                    p_task_id=task_id,
                    p_lease_id=lease_id,
                    p_output_location="film.mp4",
                    p_result=None,
                )
    return claims / seconds


def _claim(engine: sa.Engine, models: tuple[str, ...]) -> tuple[UUID, int]:
    with engine.begin() as connection:
        found = database.call_in(
            connection,
            "claim_tasks",
            p_run_type="gpu",
            p_worker_id="worker",
            p_limit=1,
            p_lease_seconds=60.0,
            p_models=list(models),
        )
    assert len(found) == 1, "the table must hold more than is claimed"
    return found[0]["id"], found[0]["lease_id"]


def run(*, finished: int = 200_000, pending: int = 50_000, users: int = 10, claims: int = 1_000) -> dict[str, float]:
    """Claims in a second: from a table with nothing but what is claimed, and from a full one; and their ratio."""
    figures = {
        "empty": _in_new_database(0, 2 * claims, users, claims),
        "full": _in_new_database(finished, pending, users, claims),
        "full, one user": _in_new_database(finished, pending, 1, claims),
        "full, warm models": _in_new_database(finished, pending, users, claims, ("model-1",)),
    }
    figures["ratio"] = figures["full"] / figures["empty"]
    for name, figure in figures.items():
        print(f"{name:20} {figure:10.2f}")
    return figures


def _in_new_database(finished: int, pending: int, users: int, claims: int, models: tuple[str, ...] = ()) -> float:
    with tempfile.TemporaryDirectory(prefix="unitask-bench-") as folder:
        home = Path(folder)
        url = embedded.ensure_database(embedded.start(home), database.DATABASE_NAME)
        before = os.environ.get("UNITASK_DATABASE_URL")
        try:
            _use(url)
            upgrade(url)
            fill(finished=finished, pending=pending, users=users)
            measure(50, models=models)
            return measure(claims, models=models)
        finally:
            database.get_engine().dispose()
            embedded.stop(home)
            _use(before)


def _use(url: str | None) -> None:
    if url is None:
        os.environ.pop("UNITASK_DATABASE_URL", None)
    else:
        os.environ["UNITASK_DATABASE_URL"] = url
    get_settings.cache_clear()
    database.get_engine.cache_clear()


if __name__ == "__main__":
    run()
