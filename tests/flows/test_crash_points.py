"""SIGKILL inside the flows, where Prefect and the table know different things: all comes out as if undisturbed.

Some points stand for all of them in `make test`; `make kills` takes every one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import create_task, database, get_task, list_tasks, wait_for_task
from tasks_lib.crashpoints import VARIABLE
from tests.flows.conftest import Platform, until
from tests.races.sessions import check_ledger

LONG = pytest.mark.skipif("UNITASK_TEST_LONG" not in os.environ, reason="takes minutes; `make kills` runs it")
TRAVEL = "travel_orchestrator"
WORKER = "import asyncio; from flows.{0}_worker import {0}_worker; asyncio.run({0}_worker())"
DOORS = {
    "create_task": "import asyncio; from flows.create_task import create_task_flow as flow;"
    "asyncio.run(flow({{'task_type': '{type}', 'params': {params!r}, 'project_id': '{project}',"
    " 'idempotency_key': '{key}'}}, token_block='{block}'))",
    TRAVEL: "import asyncio; from flows.travel_orchestrator import travel_orchestrator as flow;"
    "asyncio.run(flow({{**{params!r}, 'project_id': '{project}'}}, idempotency_key='{key}', token_block='{block}'))",
}


@contextmanager
def flow_process(platform: Platform, code: str, crash_at: str, marker: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a flow and dies at a point."""
    own = {"PREFECT_API_URL": platform.run.prefect_api_url, VARIABLE: f"{crash_at}:{marker}"}
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | own, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def check_undisturbed(task_id: UUID) -> None:
    """A travel of two images has one of everything."""
    task = wait_for_task(task_id, timeout=180)
    assert (task.status, task.error_message) == ("Complete", None)
    children = list_tasks(parent_task_id=task_id)
    assert sorted((child.child_key, child.status) for child in children) == [
        ("segment_000", "Complete"),
        ("stitch", "Complete"),
    ]
    v = tables.generation_variants
    with database.transaction() as connection:
        made = connection.scalars(sa.select(v.c.task_id).where(v.c.task_id.in_([child.id for child in children])))
        assert Counter(made) == Counter(child.id for child in children)


def shown(travels: list[UUID], least: int) -> list[UUID]:
    """The runs of travels; none while there are fewer."""
    runs = [run for travel in travels if (run := get_task(travel).flow_run_id)]
    return runs if len(runs) >= max(1, least) else []


@pytest.mark.parametrize(
    ("run_type", "point"),
    [
        ("gpu", "task_run.begun"),
        pytest.param("api", "host.followed", marks=LONG),
        pytest.param("api", "claim_tasks.committed", marks=LONG),
        pytest.param("api", "host.shown", marks=LONG),
        pytest.param("gpu", "claim_tasks.committed", marks=LONG),
        pytest.param("gpu", "complete_task.committed", marks=LONG),
    ],
)
def test_travels_end_as_undisturbed_when_a_worker_flow_is_killed(
    platform: Platform, tmp_path: Path, run_type: str, point: str
) -> None:
    travels: list[UUID] = []
    with flow_process(platform, WORKER.format(run_type), point, tmp_path / "died") as worker:
        # The platform's own worker claims too: create until this one has had its turn.
        while worker.poll() is None:
            travels.append(platform.create(2))
            until(lambda: get_task(travels[-1]).is_final or worker.poll() is not None, what="an end")
    assert worker.returncode == -signal.SIGKILL
    for travel in travels:
        check_undisturbed(travel)
    # The next travel may have been planted when its host died for the one before, and its children end without a host
    # before another claims it: that one was never shown.
    unshown = 1 if run_type == "api" else 0
    runs = until(lambda: shown(travels, len(travels) - unshown), 60, "the runs of the travels")
    for run_id in runs:
        until(lambda: platform.get(f"/flow_runs/{run_id}")["state_type"] == "COMPLETED", 90, "its end")  # noqa: B023
    check_ledger()


@pytest.mark.parametrize(
    ("door", "point"),
    [
        (TRAVEL, "plant_children.committed"),
        pytest.param("create_task", "create_tasks.committed", marks=LONG),
        pytest.param(TRAVEL, "create_tasks.committed", marks=LONG),
        pytest.param(TRAVEL, "host.shown", marks=LONG),
        pytest.param(TRAVEL, "host.followed", marks=LONG),
    ],
)
def test_one_travel_is_made_when_the_run_of_a_door_is_killed_and_repeated(
    platform: Platform, tmp_path: Path, door: str, point: str
) -> None:
    block = f"crash-{uuid4().hex}"
    platform.save_secret(block, platform.owner.token)
    params: dict[str, Any] = platform.request(2)
    project, key = params.pop("project_id"), f"{door} {point}"
    code = DOORS[door].format(type=TRAVEL, params=params, project=project, key=key, block=block)
    for returncode in (-signal.SIGKILL, 0):
        with flow_process(platform, code, point, tmp_path / "died") as run:
            assert run.wait(120) == returncode
    again = create_task(TRAVEL, params, project_id=project, idempotency_key=key)
    assert not again.created
    check_undisturbed(again.task_id)
    check_ledger()
