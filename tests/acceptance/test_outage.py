"""Real outages: each planned time of a schedule has one run at the end, and each run its rows once."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from db import embedded
from deployments import processes
from deployments.deploy import deploy
from deployments.state import state
from deployments.supervisor import down, up
from flows import api, schedules
from tasks_lib import list_tasks
from tasks_lib.settings import get_settings
from tasks_lib.templates import create_template
from tests.acceptance.test_platform import until
from tests.conftest import Owner, forget_engine, make_owner
from tests.flows.conftest import ENDED, SETTINGS

SECONDS = 30
pytestmark = pytest.mark.skipif(not os.environ.get("UNITASK_TEST_LONG"), reason="outages take minutes: `make kills`")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="unitask-home-")).resolve()
    for name in ("UNITASK_DATABASE_URL", "UNITASK_STORAGE_URL", "UNITASK_TOKEN", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNITASK_HOME", str(folder))
    for name in ("UNITASK_MODELS", "UNITASK_PROVIDERS"):  # a model is described, though its weights are not there
        monkeypatch.setenv(name, SETTINGS[name])
    # Most times of an outage are then not planned before it.
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS", "1")
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME", "PT1S")
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "5")
    get_settings.cache_clear()
    forget_engine()
    yield folder
    forget_engine()
    down(folder)
    shutil.rmtree(folder)
    get_settings.cache_clear()


def call(home: Path, method: str, path: str, body: Any = None) -> Any:
    run = state(home)
    assert run
    with api.client(run.prefect_api_url) as client:
        answer = client.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None


def save_token(home: Path, owner: Owner) -> None:
    kind = call(home, "GET", "/block_types/slug/secret")["id"]
    where = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    schema = call(home, "POST", "/block_schemas/filter", where)[0]["id"]
    block = {"name": "unitask-token", "data": {"value": owner.token}}
    call(home, "POST", "/block_documents/", block | {"block_type_id": kind, "block_schema_id": schema})


def kill_everything(home: Path) -> None:
    """What a machine does whose power is cut, but for the disk."""
    run = state(home)
    assert run
    everything = {*run.pids.values(), *(process.pid for process in processes.marked(home))}
    supervisor = psutil.Process(run.pids["supervisor"])
    supervisor.kill()
    for pid in everything:
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()
    until(lambda: state(home) is None)


def runs_of(home: Path, schedule_id: str) -> list[dict[str, Any]]:
    """The runs of a schedule whose time has passed."""
    now = datetime.now(UTC)
    runs = call(home, "POST", "/flow_runs/filter", {"sort": "ID_DESC"})
    return [
        run
        for run in runs
        if schedules.schedule_of(run["idempotency_key"]) == schedule_id
        and datetime.fromisoformat(run["expected_start_time"]) < now
    ]


@pytest.mark.timeout(900)
def test_each_planned_time_has_one_run_when_everything_was_killed_and_stopped(home: Path) -> None:
    up(home)
    deploy(home)
    owner = make_owner("planner")
    save_token(home, owner)
    who: dict[str, Any] = {"project_id": owner.project_id, "token": owner.token}
    create_template("often", "single_image", {"steps": 4}, open_fields=["prompt"], **who)
    deployment = call(home, "GET", "/deployments/name/scheduled-batch/scheduled-batch")
    batch = {"project_id": str(owner.project_id), "template": "often", "items": [{"prompt": "a"}, {"prompt": "b"}]}
    body = {"active": True, "schedule": {"interval": SECONDS, "timezone": "UTC"}, "parameters": batch}
    (schedule,) = call(home, "POST", f"/deployments/{deployment['id']}/schedules", [body])
    until(lambda: [run for run in runs_of(home, schedule["id"]) if run["state_type"] == "COMPLETED"], 180)

    for stop in (kill_everything, down):
        forget_engine()
        stop(home)
        time.sleep(3 * SECONDS)  # the outage
        assert embedded.pid(home) is None or stop is kill_everything
        up(home)
        deploy(home)
        until(lambda: complete(home, schedule), 400)

    call(home, "PATCH", f"/deployments/{deployment['id']}/schedules/{schedule['id']}", {"active": False})
    until(lambda: all(run["state_type"] in ENDED for run in runs_of(home, schedule["id"])), 400)
    runs = runs_of(home, schedule["id"])
    times = [run["expected_start_time"] for run in runs]
    assert len(times) == len(set(times))
    messages = [run["state"]["message"] for run in runs]
    assert sum("; late by " in message for message in messages) >= 4
    made = list_tasks(task_type="single_image", limit=500, token=owner.token)
    assert len(made) == 2 * len(runs), messages


def complete(home: Path, schedule: dict[str, Any]) -> bool:
    """Whether every time up to two minutes ago has a run, and each of those has ended."""
    until_ = datetime.now(UTC) - timedelta(minutes=2)
    runs = {datetime.fromisoformat(run["expected_start_time"]): run for run in runs_of(home, schedule["id"])}
    began = datetime.fromisoformat(schedule["created"])
    owed = [time.astimezone(UTC) for time in schedules.due_times(schedule["schedule"], began, until_)]
    return all(time in runs and runs[time]["state_type"] in ENDED for time in owed)
