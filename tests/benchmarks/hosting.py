"""Orchestrators that wait: many in one api worker, and one gpu slot that makes all their parts.

Prints what a waiting orchestrator costs its host in memory, connections and processor time; fails if one is left over.
`UNITASK_BENCH_HOSTED` says how many (1,000, which takes some ten minutes).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psutil
import sqlalchemy as sa
from PIL import Image

from db import tables
from deployments.state import RunState
from tasks_lib import create_tasks, database, upload_media
from tests.benchmarks.machine import fresh_platform
from tests.benchmarks.pickup import project, worker_process

HOSTED = int(os.environ.get("UNITASK_BENCH_HOSTED", "1000"))
WAIT_SECONDS = 3600
IDLE_SECONDS = 20
API_WORKER = "import asyncio; from flows.api_worker import api_worker; asyncio.run(api_worker())"
# One slot whose work takes no time.
GPU_WORKER = """
import asyncio
from prefect import flow
from flows.worker import run_worker
from tasks_lib.queue import Output

async def execute(task, report):
    return Output("film.mp4")

@flow(name="gpu-worker", persist_result=False)
async def one_slot():
    return await run_worker("gpu", 1, execute)

asyncio.run(one_slot())
"""
# No other worker may come, and this one must not be renewed in the middle.
SETTINGS = {"UNITASK_GPU_WORKERS": "0", "UNITASK_API_WORKERS": "0", "UNITASK_WORKER_MAX_TASKS": "1000000"}


def run() -> None:
    """Host, look, work, and print."""
    os.environ.update(SETTINGS)
    with fresh_platform() as platform:
        project_id, token = project()
        with worker_process([sys.executable, "-c", API_WORKER], platform) as api_worker:
            _until(lambda: _workers() == 1)
            host = psutil.Process(api_worker.pid)
            empty, connections = host.memory_info().rss, _connections()
            took = _create_and_wait_until_hosted(project_id, token)
            print(f"{HOSTED} orchestrators hosted and shown after {took:.0f} s")
            full = host.memory_info().rss
            print(
                f"memory {empty >> 20} MiB -> {full >> 20} MiB, {(full - empty) / HOSTED / 1024:.0f} KiB each; "
                f"{host.num_threads()} threads; Postgres connections {connections} -> {_connections()}"
            )
            busy = sum(host.cpu_times()[:2])
            time.sleep(IDLE_SECONDS)
            print(f"while they wait: {(sum(host.cpu_times()[:2]) - busy) / IDLE_SECONDS:.0%} of a core")
            _finish(platform)


def _create_and_wait_until_hosted(project_id: UUID, token: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        Image.linear_gradient("L").resize((64, 64)).save(path)
        image = upload_media(path, project_id=project_id, token=token)
    params = {"image_urls": [image, image], "base_prompts": ["turning"], "segment_frames": 5, "resolution": "64x64"}
    request = {"task_type": "travel_orchestrator", "params": params, "project_id": project_id}
    began = time.monotonic()
    create_tasks([request] * HOSTED, token=token)
    t = tables.tasks
    _until(lambda: _count(t.c.hosted, t.c.status == "Processing", t.c.flow_run_id.is_not(None)) == HOSTED)
    return time.monotonic() - began


def _finish(platform: RunState) -> None:
    t = tables.tasks
    began = time.monotonic()
    with worker_process([sys.executable, "-c", GPU_WORKER], platform):
        _until(lambda: _count(t.c.status.in_(("Pending", "Processing"))) == 0)
    with database.transaction() as connection:
        ends = Counter(connection.scalars(sa.select(t.c.status)))
        attempts = connection.scalar(sa.select(sa.func.max(t.c.attempt)))
    assert (ends, attempts) == ({"Complete": 3 * HOSTED}, 1), f"{ends}, attempts up to {attempts}"
    print(f"all {3 * HOSTED} tasks Complete, by one gpu slot, {time.monotonic() - began:.0f} s later")


def _workers() -> int:
    with database.transaction() as connection:
        w = tables.workers
        return int(connection.scalar(sa.select(sa.func.count()).where(w.c.stopped_at.is_(None))) or 0)


def _count(*filters: sa.ColumnElement[bool]) -> int:
    with database.transaction() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(tables.tasks).where(*filters)) or 0)


def _connections() -> int:
    """All sessions of the tasks database: those of this process, of the supervisor and of the worker."""
    statement = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    with database.transaction() as connection:
        return int(connection.execute(statement).scalar_one())


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not happen in an hour"
        time.sleep(0.5)
