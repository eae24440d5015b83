"""Workers on a real Postgres with real engine processes: the loop, cancellation, crashes, outages and drains."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks_lib import cancel_task, create_travel_between_images_task, get_task, list_tasks, storage, upload_media
from tasks_lib.creation import plant_children
from tasks_lib.engines.process import EngineProcess
from tasks_lib.media.video import probe
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import Watcher
from tasks_lib.queue.worker import RENEWAL, STOP_SECONDS, Report, Worker
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.races.sessions import make_tasks


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, owner: Owner) -> Owner:
    """Short intervals, so that tests need not wait for them."""
    monkeypatch.setenv("UNITASK_LEASE_SECONDS", "3")
    monkeypatch.setenv("UNITASK_HEARTBEAT_SECONDS", "0.3")
    monkeypatch.setenv("UNITASK_POLL_SECONDS", "0.3")
    monkeypatch.setenv("UNITASK_DRAIN_SECONDS", "1")
    get_settings.cache_clear()
    return owner


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    """An engine process that ends with the test, however that ends."""
    made = EngineProcess()
    yield made
    made.kill()


@asynccontextmanager
async def running(*workers: Worker, bell: Bell) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Workers at work; they are drained at the end."""
    listening = asyncio.create_task(bell.listen())
    working = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield working
    finally:
        for worker in workers:
            worker.drain("the test is over")
        await asyncio.gather(*working)
        listening.cancel()


async def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition on the database."""
    async with asyncio.timeout(seconds):
        while not (found := await asyncio.to_thread(condition)):  # noqa: ASYNC110  the condition is in Postgres
            await asyncio.sleep(0.05)
    return found


HOSTED_TO_THE_END: list[Any] = []


def api_worker(bell: Bell, watcher: Watcher) -> Worker:
    async def execute(task: ClaimedTask, report: Report) -> Output:
        raise AssertionError(f"{task.name} is no work for the api pool")

    async def host(task: ClaimedTask) -> None:
        await asyncio.to_thread(plant_children, task)
        ended = await watcher.ended(task.id)
        assert ended.status == get_task(task.id).status
        HOSTED_TO_THE_END.append(task.id)

    return Worker("api", "api-1", 4, execute, bell, host)


def gpu_worker(bell: Bell, execute: Callable[[ClaimedTask, Report], Awaitable[Output]]) -> Worker:
    return Worker("gpu", f"gpu-{os.urandom(2).hex()}", 1, execute, bell)


def make_images(owner: Owner, folder: Path, count: int, size: int = 64) -> list[str]:
    """Pictures of soft noise, uploaded."""
    rng = np.random.default_rng(7)
    references = []
    for i in range(count):
        noise = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        path = folder / f"{i}.png"
        noise.resize((size, size), Image.Resampling.BICUBIC).save(path)
        references.append(upload_media(path, project_id=owner.project_id))
    return references


def create(owner: Owner, folder: Path, count: int = 3, **params: Any) -> Any:
    return create_travel_between_images_task(
        project_id=owner.project_id,
        image_urls=make_images(owner, folder, count),
        base_prompts=["a walk"],
        resolution="64x64",
        **{"segment_frames": 5, **params},
    )


@pytest.mark.parametrize(
    ("params", "frames"),
    [
        ({"segment_frames": 9}, 17),
        ({"segment_frames": 9, "frame_overlap": 4}, 14),
        ({"segment_frames": 9, "frame_overlap": 4, "independent_segments": False}, 18),
        ({"segment_frames": 9, "independent_segments": False}, 18),
    ],
)
def test_travel_becomes_a_film_when_workers_run(
    quick: Owner, engine: EngineProcess, tmp_path: Path, params: dict[str, Any], frames: int
) -> None:
    async def main() -> None:
        bell = Bell()
        watcher = Watcher(bell)
        created = create(quick, tmp_path, **params)
        watching = asyncio.create_task(watcher.run())
        async with running(api_worker(bell, watcher), gpu_worker(bell, engine.execute), bell=bell):
            await until(lambda: created.task_id in HOSTED_TO_THE_END)
        watching.cancel()
        task = get_task(created.task_id)
        assert (task.status, task.error_message) == ("Complete", None)
        assert task.params["timeline"]["total_frames"] == frames
        film = tmp_path / "film.mp4"
        assert task.output_location is not None
        storage.fetch(task.output_location, film)
        assert probe(film).frames == frames
        assert task.result is not None
        assert {segment["method"] for segment in task.result["segments"]} <= {"flow", "crossfade"}

    asyncio.run(main())


def test_task_comes_back_when_its_engine_process_is_killed(quick: Owner, engine: EngineProcess, tmp_path: Path) -> None:
    async def main() -> None:
        bell = Bell()
        watcher = Watcher(bell)
        kills: list[int] = []

        async def execute(task: ClaimedTask, report: Report) -> Output:
            if task.task_type == "travel_segment" and not kills:
                await engine.start()
                assert engine.pid is not None
                kills.append(engine.pid)
                asyncio.get_running_loop().call_later(0.01, os.kill, engine.pid, signal.SIGKILL)
            return await engine.execute(task, report)

        created = create(quick, tmp_path, 2, segment_frames=81)
        watching = asyncio.create_task(watcher.run())
        async with running(api_worker(bell, watcher), gpu_worker(bell, execute), bell=bell):
            await until(lambda: get_task(created.task_id).is_final)
        watching.cancel()
        assert get_task(created.task_id).status == "Complete"
        segment = list_tasks(parent_task_id=created.task_id, task_type="travel_segment")[0]
        assert segment.attempt == 2

    asyncio.run(main())


def test_running_work_stops_at_once_when_it_is_cancelled(quick: Owner, tmp_path: Path) -> None:
    async def main() -> None:
        bell = Bell()
        watcher = Watcher(bell)
        started, stopped = asyncio.Event(), asyncio.Event()

        async def execute(task: ClaimedTask, report: Report) -> Output:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            raise AssertionError

        created = create(quick, tmp_path)
        watching = asyncio.create_task(watcher.run())
        async with running(api_worker(bell, watcher), gpu_worker(bell, execute), bell=bell):
            await asyncio.wait_for(started.wait(), 20)
            await asyncio.to_thread(cancel_task, created.task_id)
            await asyncio.wait_for(stopped.wait(), 5)
        watching.cancel()
        assert {task.status for task in list_tasks(limit=10)} == {"Cancelled"}

    asyncio.run(main())


def test_held_work_is_handed_back_and_finished_elsewhere_when_a_drain_takes_too_long(
    quick: Owner, tmp_path: Path
) -> None:
    async def main() -> None:
        bell = Bell()
        watcher = Watcher(bell)
        started = asyncio.Event()

        async def hang(task: ClaimedTask, report: Report) -> Output:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                # An engine that does not hear: only the second call cuts it off.
                await asyncio.Event().wait()
            raise AssertionError

        async def work(task: ClaimedTask, report: Report) -> Output:
            return Output("film.mp4")

        created = create(quick, tmp_path)
        watching = asyncio.create_task(watcher.run())
        async with running(api_worker(bell, watcher), gpu_worker(bell, hang), bell=bell):
            await asyncio.wait_for(started.wait(), 20)
            begun = time.monotonic()
        assert time.monotonic() - begun < get_settings().drain_seconds + 3 * STOP_SECONDS + 2
        segments = list_tasks(parent_task_id=created.task_id, task_type="travel_segment")
        assert [(task.status, task.attempt) for task in segments] == [("Pending", 0)] * 2
        assert get_task(created.task_id).status == "Pending"

        async with running(gpu_worker(bell, work), bell=bell):
            await until(lambda: get_task(created.task_id).is_final)
        watching.cancel()
        assert get_task(created.task_id).status == "Complete"
        assert {task.attempt for task in list_tasks(parent_task_id=created.task_id)} == {1}

    asyncio.run(main())


def test_engine_work_is_finished_first_when_a_worker_is_renewed(
    quick: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_WORKER_MAX_SECONDS", "0.5")
    monkeypatch.setenv("UNITASK_DRAIN_SECONDS", "0.1")
    get_settings.cache_clear()

    async def work(task: ClaimedTask, report: Report) -> Output:
        await asyncio.sleep(1.5)
        return Output("film.mp4")

    async def main() -> None:
        bell = Bell()
        (task,) = make_tasks(quick)
        worker = gpu_worker(bell, work)
        async with running(worker, bell=bell) as (ending,):
            assert await asyncio.wait_for(ending, 20) == RENEWAL
        row = get_task(task)
        assert (row.status, row.attempt) == ("Complete", 1)

    asyncio.run(main())
