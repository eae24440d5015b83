"""What an owner writes into `task_types` never stops the workers that start afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from tasks_lib import create_task, database, get_task, wait_for_task
from tasks_lib.queue import leases
from tests.flows.conftest import Platform, until
from tests.flows.test_cli import unitask
from tests.flows.test_worker_flows import worker_run
from tests.integration.types.test_type_rows import MISSING, SPECIFIED, by_sql


@pytest.fixture
def changed(platform: Platform) -> Iterator[UUID]:
    """A platform whose owner has added a type, a task of it, a broken price, and changes of every kind."""
    by_sql(SPECIFIED)
    by_sql(
        "UPDATE task_types SET display_name = 'Larger', max_attempts = 1, deadline_seconds = 100"
        " WHERE name = 'image_upscale'"
    )
    by_sql("UPDATE task_types SET cost_factors = '[]', is_active = false WHERE name = 'z_image_turbo'")
    by_sql("UPDATE task_types SET run_type = 'gpu' WHERE name = 'qwen_image'")
    with database.transaction() as connection:
        statement = sa.text(
            "INSERT INTO tasks (project_id, task_type, params) VALUES (:p, 'new_task_type', '{}') RETURNING id"
        )
        unknown: UUID = connection.execute(statement, {"p": platform.owner.project_id}).scalar_one()
    yield unknown
    by_sql("DELETE FROM tasks WHERE task_type = 'new_task_type'")
    by_sql("DELETE FROM task_types WHERE name = 'new_task_type'")
    by_sql(
        "UPDATE task_types SET display_name = declared ->> 'display_name', run_type = declared ->> 'run_type',"
        " max_attempts = (declared ->> 'max_attempts')::int, is_active = true,"
        " deadline_seconds = (declared ->> 'deadline_seconds')::int, cost_factors = declared -> 'cost_factors'"
        " WHERE declared IS NOT NULL"
    )


def has_completed(platform: Platform, run_id: str) -> bool:
    return bool(platform.get(f"/flow_runs/{run_id}")["state_type"] == "COMPLETED")


def test_workers_that_start_afterwards_work_when_an_owner_has_changed_rows(platform: Platform, changed: UUID) -> None:
    wait_for_task(platform.create(2), timeout=120)
    before = {pool: worker_run(platform, pool)["id"] for pool in ("gpu", "api")}
    leases.drain_workers()
    for pool in before:
        until(partial(has_completed, platform, before[pool]), 60, "the end of the old workers")
    (image,) = platform.images(1)
    made = create_task("image_upscale", {"image_url": image}, project_id=platform.owner.project_id)
    done = wait_for_task(made.task_id, timeout=120)
    assert (done.status, done.error_message, done.max_attempts) == ("Complete", None, 1)
    assert wait_for_task(platform.create(2), timeout=120).status == "Complete"
    after = {pool: worker_run(platform, pool) for pool in ("gpu", "api")}
    assert all(after[pool]["id"] != before[pool] for pool in before)
    assert {run["state_type"] for run in after.values()} == {"RUNNING"}
    assert (get_task(changed).status, get_task(changed).attempt) == ("Pending", 0)

    said = unitask("status", "-o", "json")
    assert said.returncode == 1
    found: list[dict[str, Any]] = json.loads(said.stdout)["findings"]
    assert [one["state"] for one in found if MISSING in one["text"] and "1 of its tasks wait" in one["text"]] == [
        "wrong"
    ]
    assert any("`z_image_turbo` is switched off" in one["text"] for one in found)
    assert MISSING in unitask("status").stdout.replace("\n", " ")
    assert MISSING in unitask("doctor").stdout.replace("\n", " ")
    assert "needs code" in unitask("types", COLUMNS="200").stdout
    refused = unitask("create", "new_task_type")
    assert refused.returncode == 1
    assert MISSING in refused.stderr
    assert "Traceback" not in refused.stderr


def test_changes_of_an_owner_stay_when_the_platform_is_deployed_again(platform: Platform, changed: UUID) -> None:
    assert unitask("deploy").returncode == 0
    with database.transaction() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT display_name, max_attempts, deadline_seconds FROM task_types WHERE name = 'image_upscale'"
                " UNION ALL SELECT run_type, 0, 0 FROM task_types WHERE name = 'qwen_image'"
            )
        ).all()
    assert [tuple(row) for row in rows] == [("Larger", 1, 100), ("gpu", 0, 0)]
