"""SIGKILL at every named point: afterwards all is as if nothing had happened."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from tasks_lib import create_tasks, create_travel_between_images_task, database, get_task, upload_media
from tasks_lib.crashpoints import VARIABLE
from tasks_lib.engines.process import EngineProcess
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.crash.process import work
from tests.races.sessions import (
    check_ledger,
    claim,
    everything,
    expire,
    make_family,
    nothing_changes,
    row_of,
    wait_until,
)

ROOT = Path(__file__).parents[2]
SECONDS = 120
TRAVEL: dict[str, Any] = {"base_prompts": ["a walk"], "resolution": "64x64", "segment_frames": 5}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, owner: Owner) -> Owner:
    """Short intervals, so that tests need not wait for them."""
    monkeypatch.setenv("UNITASK_LEASE_SECONDS", "2")
    monkeypatch.setenv("UNITASK_HEARTBEAT_SECONDS", "0.3")
    monkeypatch.setenv("UNITASK_POLL_SECONDS", "0.2")
    get_settings.cache_clear()
    return owner


@contextmanager
def process(*arguments: str, crash_at: str, marker: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of tests/crash/process.py that dies at a crash point; it has ended after the block."""
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.process", *arguments],
        cwd=ROOT,
        env={**os.environ, VARIABLE: f"{crash_at}:{marker}"},
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def make_images(owner: Owner, folder: Path, count: int) -> list[str]:
    """Tiny pictures of soft noise, uploaded."""
    rng = np.random.default_rng(7)
    references = []
    for i in range(count):
        path = folder / f"{i}.png"
        noise = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        noise.resize((64, 64), Image.Resampling.BICUBIC).save(path)
        references.append(upload_media(path, project_id=owner.project_id))
    return references


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition while workers go on in this loop."""
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  other processes make it true
            await asyncio.sleep(0.05)


def shape() -> dict[str, Any]:
    """What a travel leaves behind, without what differs between two undisturbed runs."""
    found = everything()
    keys = {row.id: row.child_key for row in found["tasks"]}
    return {
        "tasks": sorted((row.child_key or "", row.status, bool(row.output_location)) for row in found["tasks"]),
        "generations": sorted(
            (-1 if row.child_order is None else row.child_order, bool(row.location)) for row in found["generations"]
        ),
        "variants": Counter((keys[row.task_id], row.is_primary) for row in found["generation_variants"]),
        "ledger": Counter((keys[row.task_id], row.kind, row.life) for row in found["credit_ledger"]),
    }


LEAVES = ("segment_000", "segment_001", "stitch")
UNDISTURBED: dict[str, Any] = {
    "tasks": [("", "Complete", True), *((key, "Complete", True) for key in LEAVES)],
    "generations": [(-1, True), (0, True), (1, True)],
    "variants": Counter((key, True) for key in LEAVES),
    "ledger": Counter(
        [(None, "hold", 0), (None, "release", 0), *((key, kind, 0) for key in LEAVES for kind in ("hold", "capture"))]
    ),
}


@pytest.mark.parametrize(
    ("run_type", "point"),
    [
        ("api", "none"),
        ("api", "claim_tasks.executed"),
        ("api", "claim_tasks.committed"),
        ("api", "plant_children.executed"),
        ("api", "plant_children.committed"),
        ("gpu", "claim_tasks.executed"),
        ("gpu", "claim_tasks.committed"),
        ("gpu", "execute.begun"),
        ("gpu", "output.written"),
        ("gpu", "output.stored"),
        ("gpu", "execute.done"),
        ("gpu", "complete_task.executed"),
        ("gpu", "complete_task.committed"),
    ],
)
def test_travel_ends_as_undisturbed_when_its_worker_is_killed(
    quick: Owner, tmp_path: Path, run_type: str, point: str
) -> None:
    images = make_images(quick, tmp_path, 3)
    created = create_travel_between_images_task(project_id=quick.project_id, image_urls=images, **TRAVEL)
    marker = tmp_path / "died"

    async def main() -> None:
        starting = asyncio.ensure_future(engine.start())
        workers = [asyncio.ensure_future(work("api"))] if run_type == "gpu" else []
        with process("work", run_type, crash_at=point, marker=marker):
            if point != "none":
                await until(marker.exists)
            await starting
            workers += [asyncio.ensure_future(work("gpu", engine))]
            if run_type == "api":
                workers += [asyncio.ensure_future(work("api"))]
            await until(lambda: get_task(created.task_id).is_final)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    engine = EngineProcess()
    try:
        asyncio.run(main())
    finally:
        engine.kill()
    assert shape() == UNDISTURBED
    check_ledger()


@pytest.mark.parametrize(("point", "stored"), [("create_tasks.executed", 0), ("create_tasks.committed", 3)])
def test_batch_is_stored_once_when_its_creator_is_killed_and_comes_back(
    quick: Owner, tmp_path: Path, point: str, stored: int
) -> None:
    travel = {**TRAVEL, "image_urls": make_images(quick, tmp_path, 2), "random_seed": False, "seed": 1}
    requests = [
        {
            "task_type": "travel_orchestrator",
            "params": travel,
            "project_id": str(quick.project_id),
            "idempotency_key": f"{i}",
        }
        for i in range(3)
    ]
    with process("create", json.dumps(requests), crash_at=point, marker=tmp_path / "died") as creator:
        assert creator.wait(SECONDS) == -signal.SIGKILL
    before = [row.id for row in everything()["tasks"]]
    assert len(before) == stored
    answers = create_tasks(requests)
    assert [answer.created for answer in answers] == [not stored] * 3
    assert {answer.task_id for answer in answers} >= set(before)
    found = everything()
    assert [len(found[name]) for name in ("tasks", "generations", "credit_ledger")] == [3, 3, 3]


FUNCTIONS = ["cancel_task", "cancel_batch", "retry_task", "rescue_tasks", "fail_task", "return_task"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_or_nothing_is_done_when_a_caller_is_killed(quick: Owner, tmp_path: Path, function: str) -> None:
    parent = make_family(quick, ["a", "b"], "c", hold="1")
    (task,) = claim(limit=1)
    lease = {"p_task_id": str(task.id), "p_lease_id": task.lease_id}
    arguments: dict[str, Any] = {}
    if function == "cancel_task":
        arguments = {"p_task_id": str(parent.id), "p_reason": "not wanted"}
    elif function == "cancel_batch":
        arguments = {"p_id": str(parent.id), "p_user_id": None, "p_reason": "not wanted"}
    elif function == "fail_task":
        arguments = {**lease, "p_error_kind": "engine", "p_error_message": "no", "p_retryable": False}
    elif function == "return_task":
        arguments = lease
    elif function == "retry_task":
        database.call("cancel_task", p_task_id=parent.id, p_reason="not wanted")
        arguments = {"p_task_id": str(parent.id)}
    else:
        expire(task.id)
    before = row_of(task.id).status
    marker = tmp_path / "executed"
    with (
        nothing_changes(),
        process(function, json.dumps(arguments), crash_at=f"{function}.executed", marker=marker) as p,
    ):
        assert p.wait(SECONDS) == -signal.SIGKILL
        # The server notices the end of the connection by itself, and undoes what was not committed.
        wait_until(lambda: not open_transactions())
    with process(function, json.dumps(arguments), crash_at=f"{function}.committed", marker=tmp_path / "died") as p:
        assert p.wait(SECONDS) == -signal.SIGKILL
    assert row_of(task.id).status != before
    check_ledger()


def open_transactions() -> int:
    """Other sessions of this database that are in a transaction."""
    statement = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND xact_start IS NOT NULL"
    )
    with database.transaction() as connection:
        return int(connection.execute(statement).scalar_one())
