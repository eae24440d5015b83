"""What a task leaves on its way: an event for every move by every path, progress in few statements, time left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import cancel_task, database, get_task, retry_task, storage
from tasks_lib.engines.bench import Bench
from tasks_lib.errors import EngineError, LeaseLostError
from tasks_lib.events import TaskReader
from tasks_lib.queue import ClaimedTask, Output, Progress, complete, fail, give_back, heartbeat, report_progress
from tasks_lib.queue import leases as leases_module
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Report, Worker
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.races.sessions import change, claim, expire, make_family, make_tasks, row_of

OUTPUT = Output("film.mp4")


def kinds(task_id: UUID) -> list[str]:
    return [event.kind for event in TaskReader(task_id).read().events]


def claimed(owner: Owner) -> ClaimedTask:
    make_tasks(owner)
    return claim()[0]


def rescued(owner: Owner) -> UUID:
    task = claimed(owner)
    expire(task.id)
    assert claim() == []
    change(task.id, run_after=sa.func.now())
    assert claim()[0].id == task.id
    return task.id


def after(move: Callable[[ClaimedTask], Any]) -> Callable[[Owner], UUID]:
    """A claimed task that was moved once more."""

    def act(owner: Owner) -> UUID:
        task = claimed(owner)
        move(task)
        return task.id

    return act


def retried(task: ClaimedTask) -> None:
    fail(task.lease, EngineError("no"))
    retry_task(task.id)


def twice(task: ClaimedTask) -> None:
    complete(task.lease, OUTPUT)
    complete(task.lease, OUTPUT)


def dependant(owner: Owner, end: Callable[[UUID], Any]) -> UUID:
    (first,) = make_tasks(owner)
    (second,) = make_tasks(owner, depends_on=[{"task_id": first}])
    end(first)
    return second


def delete(task_id: UUID) -> None:
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.tasks).where(tables.tasks.c.id == task_id))


def settled_parent(owner: Owner, end: Callable[[ClaimedTask], Any]) -> UUID:
    parent = make_family(owner, ["a", "b"])
    for child in claim():
        end(child)
    return parent.id


CLAIMED = ["created", "processing"]
PATHS: dict[str, tuple[Callable[[Owner], UUID], list[str]]] = {
    "claimed": (lambda owner: claimed(owner).id, CLAIMED),
    "completed": (after(lambda task: complete(task.lease, OUTPUT)), [*CLAIMED, "complete"]),
    "completed twice": (after(twice), [*CLAIMED, "complete"]),
    "failed": (after(lambda task: fail(task.lease, EngineError("no"))), [*CLAIMED, "failed"]),
    "tried again": (after(lambda task: fail(task.lease, EngineError("no", retryable=True))), [*CLAIMED, "pending"]),
    "handed back": (after(lambda task: give_back(task.lease)), [*CLAIMED, "pending"]),
    "retried": (after(retried), [*CLAIMED, "failed", "pending"]),
    "cancelled": (after(lambda task: cancel_task(task.id)), [*CLAIMED, "cancelled"]),
    "only kept": (after(lambda task: heartbeat("worker", [task.lease])), CLAIMED),
    "rescued": (rescued, [*CLAIMED, "pending", "processing"]),
    "its dependency was cancelled": (lambda owner: dependant(owner, cancel_task), ["created", "failed"]),
    "its dependency was deleted": (lambda owner: dependant(owner, delete), ["created", "failed"]),
    "its dependency completed": (
        lambda owner: dependant(owner, lambda _: complete(claim()[0].lease, OUTPUT)),
        ["created"],
    ),
    "its children completed": (
        lambda owner: settled_parent(owner, lambda child: complete(child.lease, OUTPUT)),
        [*CLAIMED, "complete"],
    ),
    "its children failed": (
        lambda owner: settled_parent(owner, lambda child: fail(child.lease, EngineError("no"))),
        [*CLAIMED, "failed"],
    ),
}


def test_every_move_is_one_event_when_it_is_made_by_any_path(owner: Owner) -> None:
    for name, (act, expected) in PATHS.items():
        assert [kind for kind in kinds(act(owner)) if kind != "progress"] == expected, name
        with database.transaction() as connection:
            connection.execute(sa.delete(tables.tasks))


def test_progress_is_an_event_now_and_then_when_it_is_reported_all_the_time(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = claimed(owner)
    for step in range(1, 6):
        report_progress(task.lease, Progress(20.0 * step, step, 5, preview_key="a.jpg" if step == 1 else None))
    shown = get_task(task.id)
    assert (shown.percent, shown.step, shown.total_steps, shown.preview_key) == (100, 5, 5, "a.jpg")
    assert kinds(task.id) == [*CLAIMED, "progress"]
    monkeypatch.setenv("UNITASK_PROGRESS_EVENT_SECONDS", "0")
    get_settings.cache_clear()
    heartbeat("worker", [task.lease], (), {task.lease: Progress(50, message="half")})
    last = TaskReader(task.id).read().events[-1]
    assert (last.kind, last.status) == ("progress", "Processing")
    assert (last.data["percent"], last.data["message"], last.data["preview_key"]) == (50, "half", "a.jpg")


def test_nothing_is_told_of_a_task_when_its_lease_is_over(owner: Owner) -> None:
    mine, lost = claimed(owner), claimed(owner)
    cancel_task(lost.id)
    reports = {task.lease: Progress(50) for task in (mine, lost)}
    assert leases_module.report_all(reports) == {lost.lease}
    assert heartbeat("worker", [mine.lease, lost.lease], (), reports).lost == {lost.lease}
    assert kinds(lost.id) == [*CLAIMED, "cancelled"]
    with pytest.raises(LeaseLostError):
        report_progress(lost.lease, Progress(60))


def test_progress_begins_again_when_a_task_does(owner: Owner) -> None:
    task = claimed(owner)
    report_progress(task.lease, Progress(80, preview_key="a.jpg"))
    give_back(task.lease)
    assert get_task(task.id).percent == 0
    (again,) = claim()
    shown = get_task(task.id)
    assert (shown.percent, shown.preview_key) == (0, None)
    report_progress(again.lease, Progress(10))
    assert (get_task(task.id).percent, get_task(task.id).preview_key) == (10, None)


def test_progress_of_many_tasks_is_one_statement_a_while_when_a_worker_reports_it(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_PROGRESS_SECONDS", "0.2")
    get_settings.cache_clear()
    tasks = make_tasks(owner, 10)
    sent: list[int] = []
    report_all = leases_module.report_all

    def counted(reports: Any) -> Any:
        sent.append(len(reports))
        return report_all(reports)

    monkeypatch.setattr(leases_module, "report_all", counted)

    async def execute(task: ClaimedTask, report: Report) -> Output:
        for step in range(50):
            report(Progress(2.0 * step, step, 50))
            await asyncio.sleep(0.02)
        return OUTPUT

    async def main() -> None:
        worker = Worker("gpu", "gpu-1", len(tasks), execute, Bell())
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(60):
            while worker.done < len(tasks):  # noqa: ASYNC110  the tasks make it true
                await asyncio.sleep(0.05)
        worker.drain("the test is over")
        await running

    asyncio.run(main())
    assert {row_of(task).status for task in tasks} == {"Complete"}
    assert max(sent) > 1
    assert sum(sent) < 10 * 50 / 2
    assert all("progress" in kinds(task) for task in tasks)


def test_preview_is_kept_now_and_then_when_frames_are_drawn(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNITASK_PREVIEW_SECONDS", "1000")
    get_settings.cache_clear()
    task = claimed(owner)
    reports: list[Progress] = []
    bench = Bench(task, tmp_path, reports.append, lambda: False)
    frame = np.zeros((720, 1280, 3), np.uint8)
    bench.on_progress(1, 3, frame)
    bench.on_progress(2, 3, frame)
    bench.on_progress(3, 3)
    key = reports[0].preview_key
    assert key == storage.output_key(task.project_id, task.id, task.lease_id, "preview.jpg")
    assert [report.preview_key for report in reports[1:]] == [None, None]
    storage.fetch(key, tmp_path / "shown.jpg")
    assert (tmp_path / "shown.jpg").stat().st_size < 50_000


def test_time_left_comes_from_what_such_tasks_took_when_one_runs(owner: Owner) -> None:
    for seconds in (10, 20, 1_000):
        done = claimed(owner)
        complete(done.lease, OUTPUT)
        change(done.id, finished_at=tables.tasks.c.claimed_at + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds))
    task = claimed(owner)
    left = get_task(task.id).remaining_seconds
    assert left == pytest.approx(20, abs=2)
    assert get_task(done.id).remaining_seconds is None
    change(task.id, claimed_at=sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, 30))
    report_progress(task.lease, Progress(50))
    assert get_task(task.id).remaining_seconds == pytest.approx(20, abs=2)
    change(task.id, model="another")
    assert get_task(task.id).remaining_seconds == pytest.approx(30, abs=3), "its own rate alone"


def test_parent_tells_percent_step_picture_and_time_left_when_its_children_do(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_PROGRESS_EVENT_SECONDS", "0")
    get_settings.cache_clear()

    def began(task: ClaimedTask, seconds: float) -> None:
        change(task.id, claimed_at=sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds))

    parent = make_family(owner, ["a", "b"], last="film")

    def told() -> dict[str, Any]:
        events = [event for event in TaskReader(parent.id).read().events if event.kind == "progress"]
        return events[-1].data if events else {}

    first, second = claim(limit=2)
    assert told() == {}
    began(first, 10)
    report_progress(first.lease, Progress(50, 3, 6, preview_key="a picture"))
    assert (told()["percent"], told()["step"], told()["total_steps"]) == (16.7, 0, 3)
    assert told()["preview_key"] == "a picture"
    began(second, 10)
    report_progress(second.lease, Progress(50))
    # Two run together, each with 10 seconds left; the film, which nobody knows, is taken for one of them.
    assert told()["remaining_seconds"] == pytest.approx(10 + 10, abs=1)
    complete(first.lease, OUTPUT)
    assert told()["step"] == 1
    seen = get_task(parent.id)
    assert (seen.step, seen.total_steps, seen.preview_key) == (1, 3, "a picture")
    left = [get_task(parent.id).remaining_seconds for _ in range(3)]
    assert None not in left
    assert left == sorted(left, reverse=True), "it only falls where nothing new happens"  # type: ignore[type-var]
    complete(second.lease, OUTPUT)
    (film,) = claim()
    complete(film.lease, OUTPUT)
    assert kinds(parent.id)[-1] == "complete"
    assert get_task(parent.id).remaining_seconds is None


def test_progress_of_a_parent_is_told_now_and_then_when_its_children_report_often(owner: Owner) -> None:
    parent = make_family(owner, ["a", "b"], last="film")
    for task in claim(limit=2):
        for percent in range(0, 100, 10):
            report_progress(task.lease, Progress(percent))
    assert kinds(parent.id).count("progress") == 1
