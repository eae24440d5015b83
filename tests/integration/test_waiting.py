"""Why a task waits, in the words that `list`, `show` and the live bars have for it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

import tasks_lib
from db import tables
from tasks_lib import database, monitor, queue, waiting
from tasks_lib.cli.output import SafeConsole
from tasks_lib.errors import ProviderError
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.logins import connected_as, login


def create(owner: Owner, task_type: str = "single_image", **options: object) -> tasks_lib.Task:
    params = {"prompt": "a"} if task_type != "image_upscale" else {"image_url": "https://example.com/a.png"}
    created = tasks_lib.create_task(task_type, params, project_id=owner.project_id, **options)  # type: ignore[arg-type]
    return tasks_lib.get_task(created.task_id)


def reason(task: tasks_lib.Task) -> str:
    return waiting.reasons([tasks_lib.get_task(task.id)])[task.id]


def setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()


def test_reason_is_named_when_no_worker_lives_the_cap_is_reached_or_others_are_before(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, task = create(owner, "image_upscale"), create(owner, "image_upscale")
    assert "no worker of the pool gpu runs" in reason(task)
    queue.register_worker("a worker", "gpu", 1)
    assert reason(task) == "waits for its turn in the pool gpu"
    assert [claimed.id for claimed in queue.claim("gpu", "a worker")] == [running.id]
    setting(monkeypatch, "UNITASK_MAX_TASKS_PER_USER", "1")
    assert "at most 1 run at once" in reason(task)
    queue.retire_worker("a worker")
    assert "no worker" in reason(task)


def test_dependency_is_named_when_a_task_waits_for_another(owner: Owner) -> None:
    first, second = create(owner), create(owner)
    task = create(owner, depends_on=[first.id, second.id])
    assert reason(task) == f"waits for single_image {str(first.id)[:8]} (Pending) and 1 more"


def test_due_time_and_last_error_are_named_when_a_task_is_tried_again(owner: Owner) -> None:
    task = create(owner, "image_upscale")
    (claimed,) = queue.claim("gpu", "a worker")
    queue.fail(claimed.lease, ProviderError("the disk is full", retryable=True))
    found = reason(task)
    assert found.startswith("is tried again in ")
    assert found.endswith("after: the disk is full")


def test_provider_is_named_when_it_has_no_room(owner: Owner) -> None:
    task = create(owner, "z_image_turbo")
    pause = sa.insert(tables.provider_pauses).values(paused_until=sa.text("now() + interval '1 minute'"))
    with database.transaction() as connection:
        connection.execute(pause, [{"account": name} for name in ("fal", "replicate")])
    assert reason(task) in ("waits for room at fal", "waits for room at replicate")


def test_reason_and_time_left_are_in_the_picture_when_tasks_wait_and_run(owner: Owner) -> None:
    running = create(owner, "image_upscale")
    task = create(owner, "image_upscale", depends_on=[running.id])
    (claimed,) = queue.claim("gpu", "a worker")
    queue.report_progress(claimed.lease, queue.Progress(50, message="half of it"))
    found = [tasks_lib.get_task(id_) for id_ in (running.id, task.id)]
    console = SafeConsole()
    console.size = (100, 25)
    with console.capture() as shown:
        console.print(monitor.picture(found, 100))
    first, second = shown.get().splitlines()
    assert " left, half of it" in first
    assert f"waits for image_upscale {str(running.id)[:8]} (Processing)" in second


def test_batch_is_watched_to_its_end_when_it_was_made_by_one_call(owner: Owner) -> None:
    created = tasks_lib.create_batch_image_generation_tasks(project_id=owner.project_id, prompts=["a", "b"])
    console = SafeConsole()
    console.size = (100, 25)
    tasks_lib.cancel_batch(created[0].task_id)
    with console.capture() as shown:
        batch = monitor.watch_batch(created[0].task_id, console)
    assert set(batch.by_status) == {"Cancelled"}
    assert "2 tasks" in shown.get()
    assert "100 %" in shown.get()


def test_reasons_are_told_when_the_process_has_the_login_of_a_gateway(owner: Owner) -> None:
    task = create(owner, "z_image_turbo")
    with login(database.database_url(), "unitask_gateway") as url, connected_as(url):
        assert "no worker" in reason(task)
