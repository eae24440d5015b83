"""The scheduled batch on a real platform: created once for each time, with a report that names what was refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database, list_tasks
from tasks_lib.auth.sealing import seal
from tasks_lib.templates import create_template
from tests.flows.conftest import ENDED, Platform, run_prefect, until


def run_batch(platform: Platform, parameters: dict[str, Any], scheduled: str) -> tuple[str, str, str]:
    """A run of the deployment as its schedule would make it for a time: its id, final state and message."""
    code = f"""
import json
from datetime import datetime
from prefect.blocks.system import Secret
from prefect.deployments import run_deployment
Secret(value={platform.owner.token!r}).save("unitask-token", overwrite=True)
run = run_deployment("scheduled-batch/scheduled-batch", parameters={parameters!r}, timeout=90, as_subflow=False,
                     scheduled_time=datetime.fromisoformat({scheduled!r}))
print(json.dumps([str(run.id), run.state.type.value, run.state.message]))
"""
    run_id, state, message = run_prefect(platform, code)
    return run_id, state, message


def test_batch_is_created_once_when_its_time_comes_twice(platform: Platform) -> None:
    project_id = str(platform.owner.project_id)
    create_template("batch of tests", "single_image", {"steps": 4}, project_id=project_id, open_fields=["prompt"])
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "", "seed": -1}]
    parameters = {"project_id": project_id, "template": "batch of tests", "items": rows}

    run_id, state, message = run_batch(platform, parameters, "2026-01-01T03:00:00+00:00")
    assert (state, message) == ("COMPLETED", "2 created, 0 already there, 1 refused")
    artifacts = platform.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    (report,) = [artifact["data"] for artifact in artifacts if artifact["type"] == "markdown"]
    assert "| 2 | seed |" in report
    assert "`prompt`: must not be empty" in report
    assert platform.owner.token not in json.dumps([platform.get(f"/flow_runs/{run_id}"), artifacts])

    _, state, message = run_batch(platform, parameters, "2026-01-01T03:00:00+00:00")
    assert (state, message) == ("COMPLETED", "0 created, 2 already there, 1 refused")
    # Another occasion: somebody runs it by hand, with their own token.
    request = parameters | {"items_url": None, "images": None, "images_field": "image_url"}
    sealed = parameters | {"sealed_token": seal(platform.owner.token, request)}
    by_hand = platform.run_deployment("scheduled-batch/scheduled-batch", sealed)
    assert by_hand["state"]["message"] == "2 created, 0 already there, 1 refused"
    made = [task.params for task in list_tasks(task_type="single_image")]
    assert sorted((params["prompt"], params["steps"]) for params in made) == [("a", 4), ("a", 4), ("b", 4), ("b", 4)]


def test_run_fails_with_the_reason_when_its_template_is_missing(platform: Platform) -> None:
    parameters = {"project_id": str(platform.owner.project_id), "template": "gone", "items": [{}]}
    _, state, message = run_batch(platform, parameters, "2026-01-01T03:00:00+00:00")
    assert state == "FAILED"
    assert "there is no template `gone`" in message


def ended(platform: Platform, run_id: str) -> dict[str, Any]:
    """A run when it has ended."""
    return dict(until(lambda: (r := platform.get(f"/flow_runs/{run_id}"))["state_type"] in ENDED and r))


def batch_of(platform: Platform, template: str, *prompts: str) -> dict[str, Any]:
    """What a schedule of a batch says: a template that is stored now, and a row for each prompt."""
    project_id = str(platform.owner.project_id)
    create_template(template, "single_image", {"steps": 4}, project_id=project_id, open_fields=["prompt"])
    return {"project_id": project_id, "template": template, "items": [{"prompt": prompt} for prompt in prompts]}


def test_each_creates_all_its_rows_when_two_lists_are_planned_for_one_time(platform: Platform) -> None:
    path = f"/deployments/{platform.get('/deployments/name/scheduled-batch/scheduled-batch')['id']}/create_flow_run"
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2026-01-02T03:00:00+00:00"}}
    platform.save_token()
    lists = [batch_of(platform, "evening", f"{what} 0", f"{what} 1") for what in ("one", "two")]
    runs = [platform.post(path, {"parameters": rows, "state": state}) for rows in lists]
    messages = [ended(platform, run["id"])["state"]["message"] for run in runs]
    assert messages == ["2 created, 0 already there, 0 refused"] * 2

    # Retry, as the UI's button does it.
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}, "force": True}
    platform.post(f"/flow_runs/{runs[0]['id']}/set_state", retry)
    until(lambda: platform.get(f"/flow_runs/{runs[0]['id']}")["run_count"] == 2)
    assert ended(platform, runs[0]["id"])["state"]["message"] == "0 created, 2 already there, 0 refused"


def test_each_missed_time_has_one_report_when_nothing_ran_for_hours(platform: Platform) -> None:
    """The outage is made by moving what is remembered of the schedule, in both databases, into the past."""
    deployment = platform.get("/deployments/name/scheduled-batch/scheduled-batch")
    platform.save_token()
    anchor = datetime.now(UTC) - timedelta(minutes=12)
    body = {
        "active": True,
        "schedule": {"interval": 3600, "anchor_date": anchor.isoformat(), "timezone": "UTC"},
        "parameters": batch_of(platform, "hourly", "a", "b"),
    }
    never = {"active": True, "schedule": {"cron": "0 3 30 2 *"}}  # one that nobody can follow stops no others
    wrong, schedule = platform.post(f"/deployments/{deployment['id']}/schedules", [never, body])
    try:
        move_into_the_past(platform, schedule["id"], timedelta(hours=4))
        maintenance = [platform.start_deployment("maintenance/maintenance") for _ in range(2)]
        for run in maintenance:
            assert ended(platform, run["id"])["state_type"] in {"COMPLETED", "CANCELLED"}
        runs = until(lambda: all_ended(platform, schedule["id"]))
        messages = sorted(run["state"]["message"] for run in runs)
        assert len(messages) == 4
        assert messages[0].startswith("2 created, 0 already there, 0 refused; late by 1")
        for message in messages[1:]:
            assert message.startswith("missed, because the platform was down from ")
        assert {run["state_name"] for run in runs} == {"Completed", "Missed"}
        # Another look finds nothing more.
        ended(platform, platform.start_deployment("maintenance/maintenance")["id"])
        assert len(runs_of(platform, schedule["id"])) == 4
        # A person may have one made still.
        missed = next(run for run in runs if run["state_name"] == "Missed")
        retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        platform.post(f"/flow_runs/{missed['id']}/set_state", retry)
        until(lambda: platform.get(f"/flow_runs/{missed['id']}")["run_count"] == 1)
        assert ended(platform, missed["id"])["state"]["message"].startswith("2 created, 0 already there, 0 refused")
    finally:
        for made in (wrong, schedule):
            platform.api.delete(f"/deployments/{deployment['id']}/schedules/{made['id']}").raise_for_status()


def test_a_batch_goes_on_when_its_process_died_and_nobody_told(platform: Platform) -> None:
    parameters = batch_of(platform, "killed", "a")
    platform.save_token()
    deployment = platform.get("/deployments/name/scheduled-batch/scheduled-batch")
    state = {"type": "CRASHED", "message": "killed"}
    body = {"parameters": parameters, "state": state}
    run = platform.post(f"/deployments/{deployment['id']}/create_flow_run", body)
    platform.start_deployment("maintenance/maintenance")
    until(lambda: platform.get(f"/flow_runs/{run['id']}")["state_type"] == "COMPLETED")


def runs_of(platform: Platform, schedule_id: str) -> list[dict[str, Any]]:
    """The runs whose time has passed, of a schedule."""
    runs = platform.post("/flow_runs/filter", {"sort": "ID_DESC"})
    return [
        run
        for run in runs
        if f" {schedule_id} " in (run["idempotency_key"] or "")
        and datetime.fromisoformat(run["expected_start_time"]) <= datetime.now(UTC)
    ]


def all_ended(platform: Platform, schedule_id: str) -> list[dict[str, Any]]:
    runs = runs_of(platform, schedule_id)
    return runs if len(runs) >= 4 and all(run["state_type"] in ENDED for run in runs) else []


def move_into_the_past(platform: Platform, schedule_id: str, time: timedelta) -> None:
    """Let it seem that a schedule was made, and looked at, so long ago."""
    url = sa.make_url(platform.run.database_url).set(database="prefect", drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE deployment_schedule SET updated = now() - :time, created = now() - :time WHERE id = :id"),
            {"time": time, "id": UUID(schedule_id)},
        )
    with database.transaction() as connection:
        connection.execute(
            sa.delete(tables.schedule_marks).where(tables.schedule_marks.c.schedule_id == UUID(schedule_id))
        )
