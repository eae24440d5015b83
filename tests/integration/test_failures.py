"""What becomes of a task that failed, by the class of its error; the list of the dead, and how one comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from db import tables
from tasks_lib import database, list_dead_letters, queue, retry_task
from tasks_lib.cli import app
from tasks_lib.engines import process
from tasks_lib.engines.process import EngineProcess
from tasks_lib.errors import (
    DatabaseError,
    EngineError,
    ProviderError,
    RateLimitError,
    StorageError,
    TaskError,
    TaskValidationError,
    UnknownOutcomeError,
)
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Report, Worker
from tasks_lib.settings import get_settings
from tests.conftest import Owner, make_owner
from tests.races.sessions import change, check_ledger, claim, make_family, make_tasks, row_of, wait_until

LOST = EngineError("the engine process ended with signal 9 (SIGKILL)", retryable=True)


@pytest.mark.parametrize(
    ("error", "first", "second"),
    [
        (EngineError("out of memory", retryable=True), (1, 2), (2, 4)),
        (LOST, (1, 2), (2, 4)),
        (ProviderError("it answers 503", retryable=True), (1, 2), (2, 4)),
        (StorageError("no answer"), (1, 2), (2, 4)),
        (DatabaseError("away"), (1, 2), (2, 4)),
        (RateLimitError("it asks to wait", 30), (30, 36), (30, 36)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, TaskError) else "",
)
def test_task_comes_back_later_each_time_when_another_try_may_succeed(
    owner: Owner, error: TaskError, first: tuple[float, float], second: tuple[float, float]
) -> None:
    tasks = make_tasks(owner, 10)
    for least, most in (first, second):
        pauses = set()
        for task in claim(limit=10):
            queue.fail(task.lease, error)
            row = row_of(task.id)
            assert (row.status, row.error_kind, row.error_message) == ("Pending", error.kind, str(error))
            pauses.add(row.run_after - _last_event(task.id).created_at)
        assert timedelta(seconds=least - 0.1) < min(pauses) < max(pauses) < timedelta(seconds=most + 0.1)
        assert max(pauses) - min(pauses) > timedelta(seconds=(most - least) / 10), "they do not come back as one"
        for id_ in tasks:
            change(id_, run_after=sa.func.now())


@pytest.mark.parametrize(
    "error",
    [
        TaskValidationError("the picture cannot be read"),
        ProviderError("it refuses the prompt"),
        UnknownOutcomeError("nobody knows"),
        EngineError("this engine cannot do that"),
    ],
    ids=lambda error: error.kind,
)
def test_task_fails_at_once_when_another_try_would_not_help(owner: Owner, error: TaskError) -> None:
    make_tasks(owner, hold="1")
    (task,) = claim()
    queue.fail(task.lease, error)
    row = row_of(task.id)
    assert (row.status, row.attempt, row.error_kind, row.error_message) == ("Failed", 1, error.kind, str(error))
    check_ledger()


def test_dead_are_listed_with_their_reasons_and_come_back_when_retried(owner: Owner) -> None:
    parent = make_family(owner, ["a", "b"], "last", hold="1")
    dead = claim(limit=1)[0]
    queue.fail(dead.lease, EngineError("the weights are broken"))
    make_tasks(make_owner("a stranger"))
    # Neither the one that waited for it nor their parent: they come back with it.
    (listed,) = list_dead_letters()
    assert (listed.id, listed.attempt, listed.error_message) == (dead.id, 1, "the weights are broken")
    shown = CliRunner().invoke(app, ["dead", "--output", "json"])
    assert [row["id"] for row in json.loads(shown.stdout)] == [str(dead.id)]

    assert dead.id in retry_task(dead.id)
    assert list_dead_letters() == []
    row = row_of(dead.id)
    assert (row.status, row.attempt, row.retries) == ("Pending", 0, 1)
    assert row_of(parent.id).status == "Processing"
    kinds, reasons = zip(*_events(dead.id), strict=True)
    assert kinds == ("created", "processing", "failed", "pending")
    assert reasons[2] == "the weights are broken", "its earlier life can still be read"
    check_ledger()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, owner: Owner) -> Owner:
    """A deadline of one second for the tasks here, and short intervals."""
    monkeypatch.setenv("UNITASK_HEARTBEAT_SECONDS", "0.3")
    monkeypatch.setenv("UNITASK_POLL_SECONDS", "0.2")
    get_settings.cache_clear()
    with database.transaction() as connection:
        connection.execute(sa.update(tables.task_types).values(deadline_seconds=1))
    return owner


def test_slot_is_free_again_when_a_task_passes_its_deadline(quick: Owner) -> None:
    slow, next_one = make_tasks(quick, 2, hold="1")

    async def execute(task: ClaimedTask, report: Report) -> Output:
        if task.id == slow:
            await asyncio.Event().wait()
        return Output("film.mp4")

    _work(execute, slow, next_one)
    row = row_of(slow)
    assert (row.status, row.attempt, row_of(next_one).status) == ("Failed", 1, "Complete")
    assert "ran longer than its deadline of 1 seconds" in row.error_message
    check_ledger()


def test_hung_engine_is_ended_when_the_deadline_passes(quick: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_SECONDS", 0.5)
    (stuck,) = make_tasks(quick)
    engine = EngineProcess()

    async def execute(task: ClaimedTask, report: Report) -> Output:
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGSTOP)
        return await engine.execute(task, report)

    try:
        _work(execute, stuck, before=engine.start)
        assert row_of(stuck).status == "Failed"
        assert engine.pid is None, "the next task gets a new one"
    finally:
        engine.kill()


def test_next_task_gets_its_own_answer_when_the_start_of_an_engine_was_cut_short(owner: Owner) -> None:
    make_tasks(owner, 2)
    first, second = claim(limit=2)

    async def main() -> None:
        engine = EngineProcess()
        try:
            running = asyncio.create_task(engine.execute(first, lambda _: None))
            # It starts in the first step, and says that it is ready seconds later.
            await asyncio.sleep(0)
            assert engine.pid is not None
            running.cancel()
            await asyncio.wait([running])
            # A row without parameters is no work: that is what the engine answers to this very task.
            with pytest.raises(TaskValidationError, match="start_image"):
                await asyncio.wait_for(engine.execute(second, lambda _: None), 60)
        finally:
            engine.kill()

    asyncio.run(main())


def test_task_comes_back_when_the_engine_does_not_start(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_SECONDS", 0.01)
    make_tasks(owner)
    (task,) = claim()
    engine = EngineProcess()
    with pytest.raises(EngineError, match="no engine process within") as refused:
        asyncio.run(engine.execute(task, lambda _: None))
    assert refused.value.retryable
    assert engine.pid is None


def _work(execute: Any, *tasks: Any, before: Any = None) -> None:
    """Let a worker with one slot work until the tasks have ended."""

    async def main() -> None:
        if before is not None:
            await before()
        worker = Worker("gpu", f"gpu-{os.urandom(2).hex()}", 1, execute, Bell())
        running = asyncio.create_task(worker.run())
        await asyncio.to_thread(
            wait_until, lambda: {row_of(task).status for task in tasks} <= {"Complete", "Failed", "Cancelled"}
        )
        worker.drain("the test is over")
        await running

    asyncio.run(main())


def _events(task_id: Any) -> list[tuple[str, str | None]]:
    e = tables.task_events
    with database.transaction() as connection:
        rows = connection.execute(sa.select(e.c.kind, e.c.data).where(e.c.task_id == task_id).order_by(e.c.id))
        return [(row.kind, row.data.get("error_message")) for row in rows]


def _last_event(task_id: Any) -> Any:
    e = tables.task_events
    with database.transaction() as connection:
        return connection.execute(sa.select(e).where(e.c.task_id == task_id).order_by(e.c.id.desc()).limit(1)).one()
