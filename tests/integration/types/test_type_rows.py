"""What an owner writes into `task_types` by SQL counts, and one row stops its own tasks only."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from deployments import doctor
from deployments.gateway import create_app
from tasks_lib import create_task, create_travel_between_images_task, database, get_task, queue, quote
from tasks_lib.cli import app
from tasks_lib.creation import plant_children
from tasks_lib.errors import TaskValidationError
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings
from tasks_lib.types import registry, table
from tests.conftest import Owner, make_owner

IMAGE = {"image_url": "https://example.com/1.jpg"}
# As the specification shows it.
SPECIFIED = """
    INSERT INTO task_types (name, run_type, category, display_name, description, base_cost_per_second)
    VALUES ('new_task_type', 'gpu', 'generation', 'New Task', 'Description here', 0.001)
    ON CONFLICT (name) DO UPDATE SET
      display_name = EXCLUDED.display_name,
      description = EXCLUDED.description
"""
MISSING = "has a row and no code here: write tasks_lib/types/new_task_type.py"
KNOWN = [*registry.task_types()]


def by_sql(statement: str, role: str | None = None, **values: Any) -> None:
    """Run a statement in a session of an operator's own, with psycopg."""
    url = database.get_engine().url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        if role:
            connection.execute(f"SET ROLE {role}")
        connection.execute(statement, values)


def findings() -> dict[str, str]:
    with database.transaction() as connection:
        return {text: state for state, text in table.findings(connection)}


def insert_task(owner: Owner, task_type: str, params: str = "{}") -> UUID:
    """A row as plain SQL makes it."""
    with database.transaction() as connection:
        statement = sa.text(
            "INSERT INTO tasks (project_id, task_type, params) VALUES (:p, :t, CAST(:params AS jsonb)) RETURNING id"
        )
        made: UUID = connection.execute(
            statement, {"p": owner.project_id, "t": task_type, "params": params}
        ).scalar_one()
    return made


def column(name: str, of: str) -> Any:
    return getattr(table.load_rows()[of], name)


def test_nothing_is_found_when_rows_say_what_the_code_says(owner: Owner) -> None:
    assert findings() == {}
    table.sync(database.get_engine())
    assert findings() == {}
    assert {row.name: row.own for row in table.load_rows().values()} == {name: set() for name in KNOWN}


@pytest.mark.parametrize("role", [None, "unitask_owner"])
def test_type_is_shown_and_refused_by_what_is_missing_when_it_has_a_row_alone(
    owner: Owner, role: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_sql(SPECIFIED, role)
    by_sql(SPECIFIED, role)
    with pytest.raises(TaskValidationError, match=MISSING) as refused:
        create_task("new_task_type", {}, project_id=owner.project_id)
    assert refused.value.field == "task_type"
    assert [state for text, state in findings().items() if MISSING in text] == ["note"]
    shown = {one["name"]: one for one in json.loads(CliRunner().invoke(app, ["types", "-o", "json"]).stdout)}
    assert (shown["new_task_type"]["has_code"], shown["new_task_type"]["works"]) == (False, False)
    assert shown["new_task_type"]["display_name"] == "New Task"
    listed = CliRunner().invoke(app, ["types"], env={"COLUMNS": "200"}).stdout
    assert "needs code" in listed
    assert CliRunner().invoke(app, ["types", "show", "new_task_type"]).exit_code == 1

    client = TestClient(create_app())
    (one,) = [each for each in client.get("/v1/types").json() if each["name"] == "new_task_type"]
    assert MISSING in one["needs"]
    assert MISSING in client.get("/v1/types/new_task_type").json()["error"]["message"]
    body = {"task_type": "new_task_type", "params": {}, "project_id": str(owner.project_id)}
    answer = client.post("/v1/tasks", json=body, headers={"Authorization": f"Bearer {owner.token}"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "task_type")
    assert MISSING in answer.json()["error"]["message"]


def test_task_of_a_type_without_code_waits_and_keeps_nobody_when_workers_claim(owner: Owner) -> None:
    by_sql(SPECIFIED)
    unknown = insert_task(owner, "new_task_type")
    insert_task(owner, "nobody_knows_this")
    mine = create_task("image_upscale", IMAGE, project_id=owner.project_id)
    # More users with nothing else than the claim would look at.
    for number in range(30):
        insert_task(make_owner(f"user {number}"), "new_task_type")
    late = make_owner("late")
    other = create_task("image_upscale", IMAGE, project_id=late.project_id, token=late.token)

    claimed = {task.id for _ in range(3) for task in queue.claim("gpu", "worker", types=KNOWN)}
    assert claimed == {mine.task_id, other.task_id}
    assert (get_task(unknown).status, get_task(unknown).attempt) == ("Pending", 0)
    shown = CliRunner().invoke(app, ["show", str(unknown)], env={"COLUMNS": "200"}).stdout
    assert "waits for a worker that has code for `new_task_type`" in shown
    assert leases.backlog("gpu", KNOWN) == 0
    found = findings()
    assert [state for text, state in found.items() if MISSING in text and "31 of its tasks wait" in text] == ["wrong"]
    assert any("`nobody_knows_this`: it has neither a row nor code" in text for text in found)
    # Who has code for it gets it.
    (task,) = queue.claim("gpu", "another", types=["new_task_type"])
    assert task.task_type == "new_task_type"


def test_users_get_their_turn_when_others_have_only_what_the_worker_cannot_do_now(owner: Owner) -> None:
    for number in range(30):
        one = make_owner(f"user {number}")
        create_task("image_upscale", IMAGE, project_id=one.project_id, token=one.token)
    insert_task(owner, "travel_stitch")
    (task,) = queue.claim("gpu", "worker", without=["image_upscale"])
    assert task.task_type == "travel_stitch"


OWN = {
    "display_name": "Larger",
    "description": "Makes pictures larger.",
    "base_cost_per_second": Decimal("0.5"),
    "unit_cost": Decimal(7),
    "max_attempts": 5,
    "deadline_seconds": 77,
    "tool_type": "mine",
    "content_type": "video",
}


@pytest.mark.parametrize("name", OWN)
def test_what_the_owner_changed_stays_when_a_later_version_is_deployed(
    owner: Owner, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_sql(f"UPDATE task_types SET {name} = %(value)s WHERE name = 'image_upscale'", value=OWN[name])
    table.sync(database.get_engine())
    assert column(name, "image_upscale") == OWN[name]
    assert findings() == {}

    known = registry.task_types()
    later: dict[str, Any] = {
        "display_name": "Upscaling 2",
        "description": "Of another version.",
        "max_attempts": 2,
        "deadline_seconds": 1200,
        "unit_cost": Decimal("0.03"),
    }
    changed = {**known, "image_upscale": dataclasses.replace(known["image_upscale"], **later)}
    monkeypatch.setattr(registry, "task_types", lambda: changed)
    table.sync(database.get_engine())
    row = table.load_rows()["image_upscale"]
    assert getattr(row, name) == OWN[name]
    # A price is one thing; all else goes its own way.
    priced = name in ("base_cost_per_second", "unit_cost")
    assert (row.unit_cost == Decimal("0.03")) != priced
    assert {other: getattr(row, other) for other in later if other not in (name, "unit_cost")} == {
        other: value for other, value in later.items() if other not in (name, "unit_cost")
    }
    shown = CliRunner().invoke(app, ["types", "show", "image_upscale"], env={"COLUMNS": "200"}).stdout
    assert "Its owner has set" in shown
    assert name in shown


def test_owners_words_and_limits_count_when_tasks_are_made(owner: Owner) -> None:
    by_sql(
        "UPDATE task_types SET display_name = 'Larger', max_attempts = 5, deadline_seconds = 77, unit_cost = 2,"
        " category = 'orchestration' WHERE name = 'image_upscale'"
    )
    assert quote("image_upscale", IMAGE, project_id=owner.project_id).low == Decimal(2)
    create_task("image_upscale", IMAGE, project_id=owner.project_id)
    insert_task(owner, "image_upscale", json.dumps(IMAGE))
    for task in queue.claim("gpu", "worker", limit=5, types=KNOWN):
        assert (task.max_attempts, task.deadline_seconds) == (5, 77)
    assert [one["display_name"] for one in TestClient(create_app()).get("/v1/types").json()].count("Larger") == 1


def test_requests_are_refused_and_what_exists_goes_on_when_a_type_is_switched_off(owner: Owner) -> None:
    travel = create_travel_between_images_task(
        project_id=owner.project_id, image_urls=[IMAGE["image_url"]] * 3, base_prompts=["a walk"]
    )
    waiting = create_task("image_upscale", IMAGE, project_id=owner.project_id)
    by_sql("UPDATE task_types SET is_active = false WHERE name IN ('image_upscale', 'travel_segment')")
    table.sync(database.get_engine())
    with pytest.raises(TaskValidationError, match="`image_upscale` is switched off"):
        create_task("image_upscale", IMAGE, project_id=owner.project_id)
    # A part that is switched off is said before anything is stored.
    with pytest.raises(TaskValidationError, match="`travel_segment` is switched off"):
        create_travel_between_images_task(
            project_id=owner.project_id, image_urls=[IMAGE["image_url"]] * 3, base_prompts=["a walk"]
        )
    assert set(findings().values()) == {"note"}
    (hosted,) = queue.claim("api", "host", hosted=True, types=KNOWN)
    assert hosted.id == travel.task_id
    plant_children(hosted)
    claimed = queue.claim("gpu", "worker", limit=9, types=KNOWN)
    assert {waiting.task_id} < {task.id for task in claimed}
    assert [task.task_type for task in claimed].count("travel_segment") == 2

    by_sql("UPDATE task_types SET is_active = NULL WHERE name = 'image_upscale'")
    create_task("image_upscale", IMAGE, project_id=owner.project_id)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("run_type = 'api'", "sends it to the pool api, and no provider makes it; set `run_type` to gpu"),
        ("cost_factors = '[1]'", "`image_upscale` has no price: `cost_factors`"),
        ("cost_factors = '\"x\"'", "`image_upscale` has no price: `cost_factors`"),
        ("unit_cost = -1", "`image_upscale` has no price: `unit_cost`"),
        ("unit_cost = 'NaN'", "`image_upscale` has no price: `unit_cost`"),
        ("deadline_seconds = 0", "`image_upscale` would end at once: `deadline_seconds` is 0"),
    ],
)
def test_wrong_row_stops_its_own_type_only_when_an_owner_writes_it(owner: Owner, change: str, problem: str) -> None:
    by_sql(f"UPDATE task_types SET {change} WHERE name = 'image_upscale'")
    table.sync(database.get_engine())
    with pytest.raises(TaskValidationError) as refused:
        create_task("image_upscale", IMAGE, project_id=owner.project_id)
    assert problem in str(refused.value)
    assert [state for text, state in findings().items() if problem in text] == ["wrong"]
    assert [found.state for found in doctor.examine() if problem in found.text] == ["wrong"]
    create_travel_between_images_task(
        project_id=owner.project_id, image_urls=[IMAGE["image_url"]] * 3, base_prompts=["a walk"]
    )
    assert CliRunner().invoke(app, ["types"]).exit_code == 0
    assert TestClient(create_app()).get("/v1/types").status_code == 200


def test_tasks_go_to_the_owners_pool_when_both_can_make_them(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert create_and_look("image_inpaint", owner) == "api"
    by_sql("UPDATE task_types SET run_type = 'gpu' WHERE name = 'image_inpaint'")
    table.sync(database.get_engine())
    assert create_and_look("image_inpaint", owner) == "gpu"
    assert findings() == {}
    by_sql("UPDATE task_types SET run_type = 'gpu' WHERE name = 'travel_orchestrator'")
    assert list(findings()) == [
        "`travel_orchestrator` cannot run: its row of `task_types` sends it to the pool gpu, whose workers host no"
        " orchestrators; set `run_type` to api"
    ]


def create_and_look(task_type: str, owner: Owner) -> str:
    params = {**IMAGE, "mask_url": IMAGE["image_url"], "prompt": "a walk"}
    made = create_task(task_type, params, project_id=owner.project_id)
    with database.transaction() as connection:
        return str(connection.scalar(sa.text("SELECT run_type FROM tasks WHERE id = :id"), {"id": made.task_id}))


def test_row_that_was_written_before_its_module_keeps_what_it_says_when_the_module_comes(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_sql(SPECIFIED)
    known = registry.task_types()
    new = dataclasses.replace(known["image_upscale"], name="new_task_type", deadline_seconds=99)
    monkeypatch.setattr(registry, "task_types", lambda: {**known, "new_task_type": new})
    table.sync(database.get_engine())
    row = table.load_rows()["new_task_type"]
    assert (row.display_name, row.base_cost_per_second, row.billing_type) == (
        "New Task",
        Decimal("0.001"),
        "per_second",
    )
    assert (row.category, row.deadline_seconds, row.content_type) == ("generation", 99, "image")
    # The module goes again: the type is switched off, until somebody switches it on or the module is back.
    monkeypatch.setattr(registry, "task_types", lambda: known)
    by_sql("INSERT INTO task_types (name, category, display_name) VALUES ('by_hand', 'utility', 'By hand')")
    table.sync(database.get_engine())
    assert column("is_active", "new_task_type") is False
    assert column("is_active", "by_hand") is True
    monkeypatch.setattr(registry, "task_types", lambda: {**known, "new_task_type": new})
    table.sync(database.get_engine())
    assert column("is_active", "new_task_type") is True


def test_deploy_writes_the_row_anew_when_somebody_deleted_it(owner: Owner) -> None:
    by_sql("DELETE FROM task_types WHERE name = 'image_upscale'")
    assert list(findings().values()) == ["wrong"]
    with pytest.raises(TaskValidationError, match="no row in `task_types`: `unitask deploy` writes it"):
        create_task("image_upscale", IMAGE, project_id=owner.project_id)
    table.sync(database.get_engine())
    create_task("image_upscale", IMAGE, project_id=owner.project_id)


def test_switched_off_type_is_refused_when_the_create_task_function_is_called(owner: Owner) -> None:
    by_sql("UPDATE task_types SET is_active = false WHERE name = 'image_upscale'")
    get_settings.cache_clear()
    rows = [{"task_type": "image_upscale", "project_id": str(owner.project_id), "params": IMAGE}]
    with pytest.raises(TaskValidationError, match="not an active task type"):
        database.call("create_tasks", p_rows=json.dumps(rows))
