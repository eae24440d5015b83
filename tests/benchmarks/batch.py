"""One batch of 10,000 pictures through the library, beside a bare INSERT of the same rows into the same table."""

from __future__ import annotations

import json
import time
from typing import Any

import sqlalchemy as sa

from tasks_lib import accounts, create_batch_image_generation_tasks, database
from tasks_lib.auth import issue_token
from tests.benchmarks import machine

PROMPTS = 625
IMAGES_PER_PROMPT = 16
ROUNDS = 3

# What a statement without types, prices, references, edges, events or holds would do.
BARE = """
INSERT INTO tasks (id, project_id, user_id, task_type, run_type, params, placement, max_attempts, created_at)
SELECT gen_random_uuid(), r.project_id, r.user_id, r.task_type, r.run_type, r.params, r.placement, 3, now()
FROM unnest(CAST(:project_id AS uuid[]), CAST(:user_id AS uuid[]), CAST(:task_type AS text[]),
            CAST(:run_type AS text[]), CAST(:params AS jsonb[]), CAST(:placement AS jsonb[]))
     AS r(project_id, user_id, task_type, run_type, params, placement)
"""
ROWS = """
SELECT project_id::text, user_id::text, task_type, run_type, params::text, placement::text
FROM tasks WHERE batch_id IS NOT NULL
"""


def create(project_id: str, token: str) -> float:
    """Rows in a second: one call, validated, priced, checked, stored in one transaction, answered."""
    start = time.perf_counter()
    created = create_batch_image_generation_tasks(
        project_id=project_id,
        token=token,
        prompts=[f"a harbour, painting {i}" for i in range(PROMPTS)],
        images_per_prompt=IMAGES_PER_PROMPT,
        model_name="z-image",
        loras=[{"path": "style", "strength": 0.8}],
    )
    assert len(created) == PROMPTS * IMAGES_PER_PROMPT
    return len(created) / (time.perf_counter() - start)


def insert_bare() -> float:
    """Rows in a second: the same rows as one bare statement, its values on their way as arrays."""
    with database.transaction() as connection:
        rows = [row._mapping for row in connection.execute(sa.text(ROWS))]
    arrays: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    start = time.perf_counter()
    with database.transaction() as connection:
        connection.execute(sa.text(BARE), arrays)
    return len(rows) / (time.perf_counter() - start)


def run() -> dict[str, float]:
    """The best of some rounds of each, in turn, and how many times as long the library takes."""
    figures = {"create": 0.0, "bare": 0.0}
    with machine.fresh_database():
        for i in range(ROUNDS):
            # A user of its own for each: creates are limited by the minute.
            user_id = accounts.ensure_user(f"user {i}")
            project_id = str(accounts.ensure_project(user_id, "default"))
            token = issue_token(user_id).secret.get_secret_value()
            figures["create"] = max(figures["create"], create(project_id, token))
            figures["bare"] = max(figures["bare"], insert_bare())
            with database.transaction() as connection:
                connection.execute(sa.text("TRUNCATE tasks CASCADE"))
    figures["ratio"] = figures["bare"] / figures["create"]
    print(f"10,000 pictures in one call: {figures['create']:,.0f} rows/s; bare insert: {figures['bare']:,.0f} rows/s")
    print(f"a created row takes {figures['ratio']:.1f} times a bare one")
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
