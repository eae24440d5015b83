"""One task, one job, one charge: through success, cancellation, limits and crowds."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tempfile
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from PIL import Image

from db import tables
from tasks_lib import cancel_task, create_task, create_tasks, database, get_task, retry_task, storage
from tasks_lib.availability import find_maker
from tasks_lib.errors import TaskValidationError
from tasks_lib.media.video import probe
from tasks_lib.providers.pool import ProviderPool
from tasks_lib.providers.simulator import Simulator
from tasks_lib.queue import ClaimedTask
from tasks_lib.settings import Settings, get_settings
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner, make_owner
from tests.integration.providers.conftest import KEY, create, job_rows, ledger, run_to_end, until, working

BOTH = pytest.mark.parametrize("provider", ["replicate", "fal"])


@BOTH
def test_result_is_kept_as_ours_when_a_provider_serves_the_task(
    sim: Simulator, owner: Owner, provider: str, tmp_path: Path
) -> None:
    sim.late_cost = 1
    task_id = create(owner, provider)
    run_to_end(task_id)
    task = get_task(task_id)
    assert (task.status, task.error_message) == ("Complete", None)
    assert task.output_location is not None
    storage.fetch(task.output_location, tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as image:
        assert image.size == (64, 64)
    (job,) = job_rows()
    assert (job["state"], job["provider"], job["run"], job["seconds"]) == ("succeeded", provider, 1, 0)
    assert sim.jobs[job["job_id"]].key == job["key"] == f"{task_id}.0.1"
    assert ledger(task_id) == {"hold", "capture"}


def test_parts_become_one_film_when_a_turbo_travel_has_several_pairs(
    sim: Simulator, owner: Owner, tmp_path: Path
) -> None:
    images = [f"https://example.com/{i}.jpg" for i in range(4)]
    params = {"image_urls": images, "base_prompts": ["a walk"]}
    task_id = create_task("wan_2_2_i2v", params, project_id=owner.project_id).task_id
    run_to_end(task_id)
    task = get_task(task_id)
    assert (task.status, task.error_message) == ("Complete", None)
    assert task.output_location is not None
    storage.fetch(task.output_location, tmp_path / "film.mp4")
    # Three clips of nine frames that share their keyframes.
    assert probe(tmp_path / "film.mp4").frames == 25
    assert sorted(job["part"] for job in job_rows()) == [0, 1, 2]
    ends = {job.input["image_url"]: job.input["end_image_url"] for job in sim.jobs.values()}
    assert ends == dict(itertools.pairwise(images))


def test_task_of_many_parts_is_done_at_one_go_when_its_provider_takes_few_jobs(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_FAL_CONCURRENCY", "2")
    get_settings.cache_clear()
    sim.latency = 0.1
    params = {"image_urls": [f"https://example.com/{i}.jpg" for i in range(13)], "base_prompts": ["a walk"]}
    task_id = create_task("wan_2_2_i2v", params, project_id=owner.project_id).task_id
    run_to_end(task_id)
    assert get_task(task_id).status == "Complete"
    assert len(sim.jobs) == 12
    # Handed back and claimed again, it would have another lease.
    assert lease_of(task_id) == 1


def lease_of(task_id: UUID) -> int:
    t = tables.tasks
    with database.transaction() as connection:
        return int(connection.execute(sa.select(t.c.lease_id).where(t.c.id == task_id)).scalar_one())


def test_passing_files_are_gone_when_tasks_have_ended_and_their_worker_lives(
    sim: Simulator, owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    images = [f"https://example.com/{i}.jpg" for i in range(3)]
    params = {"image_urls": images, "base_prompts": ["a walk"]}
    film = create_task("wan_2_2_i2v", params, project_id=owner.project_id).task_id
    sim.fault("file", "html", prompt="no picture")
    picture = create(owner, "fal", prompt="no picture")

    def files_by_folder() -> list[list[Path]]:
        return [list(folder.iterdir()) for folder in tmp_path.glob("unitask-api-*")]

    async def main() -> None:
        async with working():
            await until(lambda: all(get_task(task_id).is_final for task_id in (film, picture)))
            assert files_by_folder() == [[]]
        assert files_by_folder() == []

    asyncio.run(main())
    assert [get_task(task_id).status for task_id in (film, picture)] == ["Complete", "Failed"]


def test_cancellation_reaches_the_provider_when_a_task_is_cancelled(sim: Simulator, owner: Owner) -> None:
    sim.latency = 600
    task_ids = [create(owner, provider) for provider in ("replicate", "fal")]

    async def main() -> None:
        async with working():
            await until(lambda: len(sim.jobs) == 2)
            for task_id in task_ids:
                await asyncio.to_thread(cancel_task, task_id)
            await until(lambda: all(job.cancelled for job in sim.jobs.values()), 15)
            await until(lambda: {job["state"] for job in job_rows()} == {"cancelled"}, 15)

    asyncio.run(main())
    assert [ledger(task_id) for task_id in task_ids] == [{"hold", "release"}] * 2


def test_job_is_adopted_or_cancelled_when_its_worker_has_drained(sim: Simulator, owner: Owner) -> None:
    sim.latency = 600
    kept, dropped = create(owner, "fal"), create(owner, "fal")

    async def main() -> None:
        async with working():
            await until(lambda: len(sim.jobs) == 2)
        assert {get_task(task_id).status for task_id in (kept, dropped)} == {"Pending"}
        await asyncio.to_thread(cancel_task, dropped)
        for job in sim.jobs.values():
            job.ends = 0 if job.key.startswith(str(kept)) else job.ends
        async with working():
            await until(lambda: get_task(kept).is_final)
            await until(lambda: {job["state"] for job in job_rows()} == {"succeeded", "cancelled"}, 15)

    asyncio.run(main())
    assert get_task(kept).status == "Complete"
    assert len(sim.jobs) == 2


def test_job_is_cancelled_and_its_task_fails_when_it_never_ends(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_PROVIDER_JOB_SECONDS", "1")
    get_settings.cache_clear()
    sim.latency = float("inf")
    task_id = create(owner, "fal")

    async def main() -> None:
        async with working():
            await until(lambda: get_task(task_id).is_final)
            await until(lambda: all(job.cancelled for job in sim.jobs.values()), 15)

    asyncio.run(main())
    task = get_task(task_id)
    assert (task.status, task.error_kind) == ("Failed", "provider")
    assert "took longer than 1 seconds" in str(task.error_message)


def test_task_is_submitted_once_more_only_when_a_person_retries_it(sim: Simulator, owner: Owner) -> None:
    sim.fault("submit", "cut")
    task_id = create(owner, "fal")
    run_to_end(task_id)
    assert "nobody knows" in str(get_task(task_id).error_message)
    assert len(sim.jobs) == 1
    retry_task(task_id)
    run_to_end(task_id)
    assert get_task(task_id).status == "Complete"
    assert [job.key for job in sim.jobs.values()] == [f"{task_id}.0.1", f"{task_id}.0.2"]


def test_limits_hold_for_all_workers_together_when_more_is_waiting(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_FAL_CONCURRENCY", "3")
    monkeypatch.setenv("UNITASK_REPLICATE_PER_MINUTE", "4")
    get_settings.cache_clear()
    sim.latency = 0.3
    fal = [create(owner, "fal") for _ in range(9)]
    replicate = [create(owner, "replicate") for _ in range(6)]

    async def main() -> None:
        async with working(), working():
            await until(lambda: all(get_task(task_id).status == "Complete" for task_id in fal))
            await until(lambda: sum(get_task(task_id).status == "Complete" for task_id in replicate) == 4)

    asyncio.run(main())
    assert sim.most("fal") == 3
    late = [task for task_id in replicate if (task := get_task(task_id)).status == "Pending"]
    # They come back when the minute is over, and waiting cost them no attempt.
    assert [task.attempt for task in late] == [0, 0]


def test_waiting_in_line_costs_nothing_when_a_provider_has_less_room_than_the_worker_has_slots(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_FAL_CONCURRENCY", "6")
    get_settings.cache_clear()
    sim.latency = 0.3
    tasks = [create(owner, "fal") for _ in range(36)]
    run_to_end(*tasks, slots=12)
    assert sim.most("fal") == 6
    assert len(sim.jobs) == 36
    assert {(task.status, task.attempt) for task in map(get_task, tasks)} == {("Complete", 1)}


def test_quick_provider_serves_when_a_slow_one_is_full(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_REPLICATE_CONCURRENCY", "2")
    get_settings.cache_clear()
    sim.fault("status", "never", times=10_000, prompt="slow")
    for _ in range(8):
        create(owner, "replicate", prompt="slow")
    quick = [create(owner, "fal") for _ in range(6)]
    run_to_end(*quick, slots=4)
    assert {get_task(task_id).status for task_id in quick} == {"Complete"}
    assert sum(job.dialect == "replicate" for job in sim.jobs.values()) == 2


def test_quick_provider_serves_when_hundreds_wait_for_a_slow_one(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_REPLICATE_CONCURRENCY", "2")
    get_settings.cache_clear()
    sim.fault("status", "never", times=1_000_000, prompt="slow")
    edit = {"task_type": "magic_edit", "params": {"prompt": "slow", "image_url": "https://example.com/0.jpg"}}
    slow = [answer.task_id for answer in create_tasks([edit | {"project_id": owner.project_id}] * 800)]
    quick = [create(owner, "fal") for _ in range(6)]
    run_to_end(*quick, slots=4)
    assert {get_task(task_id).status for task_id in quick} == {"Complete"}
    t = tables.tasks
    with database.transaction() as connection:
        claims = connection.scalar(sa.select(sa.func.sum(t.c.lease_id)).where(t.c.id.in_(slow)))
    assert claims < 200, "the worker was busy with what it could not do"


def test_next_job_runs_when_a_result_is_still_fetched(sim: Simulator, owner: Owner) -> None:
    sim.fault("file", "slow_body", times=2, seconds=600, prompt="large")
    large = [create(owner, "fal", prompt="large") for _ in range(2)]
    last = create(owner, "fal", prompt="small")

    async def main() -> None:
        async with working(slots=1) as pool:
            await until(lambda: {get_task(task_id).status for task_id in large} == {"Processing"})
            await until(lambda: [job["state"] for job in job_rows()] == ["succeeded"] * 2)
            assert pool.room().finishing == 1, "no more results than slots pile up"
            assert get_task(last).status == "Pending"

    asyncio.run(main())
    assert {get_task(task_id).status for task_id in large} == {"Pending"}, "drained, and handed back"
    assert len(sim.jobs) == 2


def test_orchestrator_is_hosted_when_its_user_and_the_worker_are_at_their_bounds(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_MAX_TASKS_PER_USER", "2")
    get_settings.cache_clear()
    sim.latency = 600
    other = make_owner("another")
    for _ in range(4):
        create(owner, "fal", prompt="mine")
    params = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}
    travel = create_task("travel_orchestrator", params, project_id=owner.project_id).task_id
    theirs = create_task("qwen_image", {"prompt": "theirs"}, project_id=other.project_id, token=other.token).task_id
    hosted: list[UUID] = []

    async def host(task: ClaimedTask) -> None:
        hosted.append(task.id)
        await asyncio.Event().wait()

    async def main() -> None:
        async with working(slots=3, host=host):
            await until(lambda: len(sim.jobs) == 3 and hosted == [travel])
        assert sorted(job.input["prompt"] for job in sim.jobs.values()) == ["mine", "mine", "theirs"]

    asyncio.run(main())
    assert get_task(theirs, token=other.token).status == "Pending", "handed back, as all that was held"


def test_key_appears_nowhere_when_calls_fail_in_many_ways(
    sim: Simulator, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for provider in ("replicate", "fal"):
        sim.fault("submit", "401", prompt=f"refused {provider}")
        sim.fault("submit", "cut", prompt=f"cut {provider}")
    task_ids = [
        create(owner, p, prompt=f"{how} {p}") for p in ("replicate", "fal") for how in ("refused", "cut", "good")
    ]
    run_to_end(*task_ids)
    refused = get_task(task_ids[0])
    assert "no access with Bearer ***" in str(refused.error_message)
    assert KEY not in caplog.text
    assert KEY not in repr(get_settings())
    with database.transaction() as connection:
        for table in tables.metadata.tables.values():
            rows = connection.execute(
                sa.select(sa.cast(sa.literal_column(f'"{table.name}"'), sa.Text)).select_from(table)
            )
            assert not [row for (row,) in rows if KEY in row], table.name


def test_creation_names_the_setting_when_no_key_is_set(owner: Owner) -> None:
    alone = Settings(database_url="", fal_key=None, replicate_token=None)
    qwen, magic = get_task_type("qwen_image"), get_task_type("magic_edit")
    with pytest.raises(TaskValidationError, match="UNITASK_FAL_KEY"):
        find_maker(qwen, None, owner.user_id, alone)
    with pytest.raises(TaskValidationError, match="replicate, fal"):
        find_maker(magic, None, owner.user_id, alone.model_copy(update={"providers": {"magic_edit": "elsewhere"}}))
    far = alone.model_copy(update={"database_url": "postgresql://far.example/unitask"})
    assert find_maker(qwen, None, owner.user_id, far).run_type == "api"


def test_worker_names_the_setting_when_it_has_no_key(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNITASK_FAL_KEY")
    get_settings.cache_clear()
    task_id = create(owner, "fal")
    run_to_end(task_id)
    assert "UNITASK_FAL_KEY" in str(get_task(task_id).error_message)


def test_other_jobs_are_cancelled_when_one_cannot_be_for_a_reason_that_nobody_foresaw(
    sim: Simulator, owner: Owner
) -> None:
    sim.latency = 600
    task_id = create(owner, "fal")
    broken = {"provider": "fal", "account": "fal", "model": "a/model", "key": "of a task that is gone", "run": 1}

    async def main() -> None:
        async with working():
            await until(lambda: len(sim.jobs) == 1)
            with database.transaction() as connection:
                # No such id fits into a URL.
                row = {**broken, "life": 0, "state": "running", "job_id": "../.."}
                connection.execute(sa.insert(tables.provider_jobs).values(**row))
            await asyncio.to_thread(cancel_task, task_id)
            await until(lambda: all(job.cancelled for job in sim.jobs.values()), 15)
            await until(lambda: {job["state"] for job in job_rows()} == {"running", "cancelled"}, 15)

    asyncio.run(main())


def test_unwanted_jobs_are_left_alone_when_their_provider_has_no_key_here(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    del owner
    monkeypatch.delenv("UNITASK_FAL_KEY")
    get_settings.cache_clear()
    orphan = {
        "provider": "fal",
        "account": "fal",
        "model": "a/model",
        "key": "of a task that is gone",
        "run": 1,
        "life": 0,
    }
    with database.transaction() as connection:
        connection.execute(sa.insert(tables.provider_jobs).values(**orphan, state="running", job_id="job 1"))

    async def main() -> None:
        async with ProviderPool() as pool:
            await pool.sweep()

    asyncio.run(main())
    (job,) = job_rows()
    assert (job["state"], job["ended_at"]) == ("running", None)
    assert job["cancelling_at"] is None, "whoever has the key need not wait for another round"
    assert not sim.jobs
