"""A row that plain SQL has made wrong ends as one failed task with its reason, and keeps nobody else from anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from deployments.gateway import create_app
from tasks_lib import create_task, database, get_task, list_tasks, queue, retention, templates
from tasks_lib.cli import app
from tasks_lib.creation import plant_children
from tasks_lib.engines.process import EngineProcess
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.providers import jobs
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.providers.simulator import Simulator
from tasks_lib.queue import ClaimedTask
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Worker
from tasks_lib.types.registry import task_types
from tests.conftest import Owner
from tests.integration.providers.conftest import sim, until

__all__ = ["sim"]

DEEP = "[" * 2500 + "]" * 2500
ROWS = {
    "nothing": "null",
    "a list": "[]",
    "a text": '"x"',
    "empty": "{}",
    "numbers for texts": json.dumps(dict.fromkeys(["image_url", "prompt", "resolution", "seed", "image_urls"], 5)),
    "texts for numbers": json.dumps(
        {"frames": "many", "resolution": "wide", "image_url": "x", "orchestrator_details": "x"}
    ),
    "a long number": f'{{"seed": 1{"0" * 6000}}}',
    "a large number": f'{{"strength": 1{"0" * 400}.5}}',
    "a deep list": f'{{"loras": {DEEP}}}',
}


def insert(owner: Owner, task_type: str, params: str, **columns: Any) -> UUID:
    given = {"project_id": str(owner.project_id), "task_type": task_type, "params": params, **columns}
    names = ", ".join(given)
    json_columns = {"params", "placement", "price", "result"}
    values = ", ".join(f"CAST(:{name} AS jsonb)" if name in json_columns else f":{name}" for name in given)
    with database.transaction() as connection:
        statement = sa.text(f"INSERT INTO tasks ({names}) VALUES ({values}) RETURNING id")
        made: UUID = connection.execute(statement, given).scalar_one()
    return made


def test_each_malformed_row_is_one_failed_task_when_workers_meet_it(sim: Simulator, owner: Owner) -> None:
    made = {insert(owner, name, params): f"{name}: {what}" for name in task_types() for what, params in ROWS.items()}
    gone_on = [insert(owner, "image_upscale", "{}", model="no such model")]
    made |= dict.fromkeys(gone_on, "an unknown model")
    made[insert(owner, "image_upscale", "{}", placement="[1]")] = "placement"
    made[insert(owner, "image_upscale", "{}", priority=-32768)] = "priority"
    made[insert(owner, "image_upscale", "{}", priority=32767)] = "priority"
    engines: set[int | None] = set()

    async def main() -> None:
        bell = Bell()
        engine = EngineProcess()
        await engine.start()
        engines.add(engine.pid)

        async def host(task: ClaimedTask) -> None:
            await asyncio.to_thread(plant_children, task)

        async with ProviderPool() as pool:
            types = [*task_types()]
            workers = [
                Worker("gpu", "gpu-1", 1, engine.execute, bell, types=types),
                Worker("api", "api-1", 8, pool.execute, bell, host, room=pool.room, types=types),
            ]
            running = [asyncio.create_task(worker.run()) for worker in workers]
            try:
                await until(lambda: not list_tasks(status=["Pending", "Processing"], limit=1), 120)
            finally:
                engines.add(engine.pid)
                for worker in workers:
                    worker.drain("the test is over")
                await asyncio.gather(*running)
                engine.kill()

    asyncio.run(main())
    wrong = {}
    for task_id, what in made.items():
        task = get_task(task_id)
        if (task.status, task.attempt) != ("Failed", 1) or not task.error_message:
            wrong[what] = (task.status, task.attempt, task.error_message)
    assert wrong == {}
    assert len(engines) == 1, "a row has ended the engine process"
    assert sim.jobs == {}


@pytest.mark.parametrize(
    ("columns", "of"),
    [
        *(({"params": params}, what) for what, params in ROWS.items()),
        ({"result": "[]", "params": "{}"}, "result"),
        ({"result": '"x"', "params": "{}"}, "result"),
        ({"result": '{"notes": 5}', "params": "{}"}, "result"),
        ({"price": '"x"', "params": "{}"}, "price"),
        ({"price": '{"low": "x"}', "params": "{}"}, "price"),
        ({"created_at": "infinity", "params": "{}"}, "created_at"),
        ({"created_at": "-infinity", "params": "{}"}, "created_at"),
        ({"created_at": "12345-01-01", "params": "{}"}, "created_at"),
        ({"run_after": "infinity", "params": "{}"}, "run_after"),
        ({"max_attempts": -5, "params": "{}"}, "max_attempts"),
        ({"model": "\u202e" * 500, "params": "{}"}, "model"),
    ],
)
def test_lists_show_the_others_when_one_row_is_malformed(owner: Owner, columns: dict[str, Any], of: str) -> None:
    good = create_task("image_upscale", {"image_url": "https://example.com/1.jpg"}, project_id=owner.project_id)
    bad = insert(owner, "image_upscale", **columns)
    assert {task.id for task in list_tasks()} == {good.task_id, bad}
    client = TestClient(create_app(), headers={"Authorization": f"Bearer {owner.token}"})
    assert {row["id"] for row in client.get("/v1/tasks").json()} == {str(good.task_id), str(bad)}
    assert client.get(f"/v1/tasks/{bad}").status_code == 200
    for words in (["list"], ["list", "-o", "json"], ["show", str(bad)], ["show", str(bad), "-o", "json"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
    claimed = {task.id for task in queue.claim("gpu", "worker", limit=5)}
    assert good.task_id in claimed


@pytest.mark.parametrize("params", ["null", "[]", '"x"', f"[1{'0' * 6000}]"])
def test_templates_are_listed_and_one_is_refused_when_its_row_is_malformed(owner: Owner, params: str) -> None:
    project = owner.project_id
    templates.create_template("good", "z_image_turbo", {"prompt": "a walk"}, project_id=project)
    with database.transaction() as connection:
        statement = sa.text(
            "INSERT INTO task_templates (project_id, name, task_type, params)"
            " VALUES (:p, 'bad', 'z_image_turbo', CAST(:params AS jsonb)), (:p, 'gone', 'no such type', '{}')"
        )
        connection.execute(statement, {"p": project, "params": params})
    assert [one.name for one in templates.list_templates(project_id=project)] == ["bad", "gone", "good"]
    for words in (["list"], ["list", "-o", "json"]):
        done = CliRunner().invoke(app, ["templates", *words])
        assert (done.exit_code, done.exception) == (0, None)
    with pytest.raises(TaskValidationError, match="the template `bad` holds no parameters"):
        templates.create_task_from_template("bad", {"prompt": "x"}, project_id=project)
    with pytest.raises(TaskValidationError, match="no task type `no such type`"):
        templates.create_task_from_template("gone", project_id=project)
    templates.create_task_from_template("good", project_id=project)


def test_old_rows_are_pruned_when_some_of_them_are_malformed(owner: Owner) -> None:
    for params in ROWS.values():
        insert(owner, "image_upscale", params, price='"x"', placement="[1]", result="[]")
    for task in queue.claim("gpu", "worker", limit=50):
        queue.fail(task.lease, EngineError("no"))
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE tasks SET created_at = '2020-01-01', finished_at = '2020-01-02' WHERE status = 'Failed'")
        )
    assert retention.prune(dry_run=True).tasks == len(ROWS)
    assert retention.prune().tasks == len(ROWS)


def test_jobs_are_cancelled_in_turn_when_some_cannot_be(owner: Owner) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO provider_jobs (part, run, key, life, provider, account, model, job_id)"
                " SELECT 0, 1, n, 0, 'fal', 'fal', 'm', n"
                " FROM (SELECT CAST(g AS text) AS n FROM generate_series(1, 25) g) s"
            )
        )
    seen = [{job.job_id for job in jobs.unwanted(20, 0, ["fal"])} for _ in range(2)]
    assert len(seen[0] | seen[1]) == 25
