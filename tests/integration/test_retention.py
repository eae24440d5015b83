"""What is deleted by age, and what never is: lineage, films, whatever runs, and money."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import fsspec
import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import create_task, database, queue, storage
from tasks_lib.creation import plant_children
from tasks_lib.errors import LeaseLostError
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.retention import Pruned, prune
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.integration.types.test_helpers import insert, rows
from tests.races.sessions import call, change, create_rows, make_tasks, meet, row_of

URL = "https://example.com/1.jpg"
TRAVEL = {"image_urls": [URL] * 3, "base_prompts": ["a walk"], "segment_frames": 9}
LONG_AGO = sa.text("now() - interval '100 days'")


@pytest.fixture
def everything_is_old(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """A storage whose files are old at once."""
    monkeypatch.setenv("UNITASK_ORPHAN_SECONDS", "0.000001")
    get_settings.cache_clear()
    return owner


@pytest.fixture(params=["file", "memory"])
def any_storage(
    request: pytest.FixtureRequest, everything_is_old: Owner, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Owner]:
    """The same, in a folder and elsewhere."""
    if request.param == "memory":
        monkeypatch.setenv("UNITASK_STORAGE_URL", f"memory://{uuid4()}")
        get_settings.cache_clear()
    yield everything_is_old
    fsspec.filesystem("memory").store.clear()


def finish(task: ClaimedTask, folder: Path, name: str = "film.mp4") -> str:
    """Store an output as a worker does, and complete the task with it."""
    key = keep(task, folder, name)
    queue.complete(task.lease, Output(key, {"media": {"frames": 9}}))
    return key


def keep(task: ClaimedTask, folder: Path, name: str) -> str:
    (folder / name).write_bytes(b"pixels")
    key = storage.output_key(task.project_id, task.id, task.lease_id, name)
    storage.put(folder / name, key)
    return key


def run_travel(owner: Owner, folder: Path) -> tuple[UUID, list[str]]:
    """A travel whose children are complete; its id and the keys of all files."""
    created = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    keys = []
    while claimed := queue.claim("gpu", "worker", limit=5):
        for task in claimed:
            keys += [keep(task, folder, "sheet.png"), finish(task, folder)]
    return created.task_id, keys


def age_all() -> None:
    with database.transaction() as connection:
        connection.execute(sa.update(tables.tasks).values(created_at=LONG_AGO))
        connection.execute(
            sa.update(tables.tasks).where(tables.tasks.c.finished_at.is_not(None)).values(finished_at=LONG_AGO)
        )
        connection.execute(sa.update(tables.task_events).values(created_at=LONG_AGO))


def ledger() -> tuple[Any, list[Any]]:
    with database.transaction() as connection:
        table = tables.credit_ledger
        total = connection.scalar(sa.select(sa.func.sum(table.c.amount)))
        return total, list(connection.execute(sa.select(table.c.id, table.c.kind, table.c.amount).order_by(table.c.id)))


def test_film_lineage_and_money_stay_when_a_travel_is_pruned(everything_is_old: Owner, tmp_path: Path) -> None:
    travel, keys = run_travel(everything_is_old, tmp_path)
    generations, variants, money = rows(tables.generations), rows(tables.generation_variants), ledger()
    assert prune().tasks == 0
    age_all()
    events = len(rows(tables.task_events))
    assert prune(dry_run=True) == Pruned(4, events, 0, 0)
    assert row_of(travel).status == "Complete"
    assert prune() == Pruned(4, events, 0, 0)

    assert rows(tables.tasks) == rows(tables.task_events) == []
    assert all(storage.exists(key) for key in keys)
    left = {row.id: row for row in rows(tables.generations)}
    for row in generations:
        assert dict(left[row.id]._mapping) == {**row._mapping, "task_id": None}
    film = next(row for row in left.values() if row.parent_generation_id is None)
    assert film.params["params"]["orchestrator_details"]["image_urls"] == TRAVEL["image_urls"]
    assert len(rows(tables.generation_variants)) == len(variants)
    assert ledger() == money
    held = next(row for row in rows(tables.credit_ledger) if row.details.get("task_type") == "travel_orchestrator")
    assert held.details["task_id"] == str(travel)


def test_children_stay_when_their_parent_still_runs(everything_is_old: Owner, tmp_path: Path) -> None:
    create_task("travel_orchestrator", TRAVEL, project_id=everything_is_old.project_id)
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    keys = [finish(task, tmp_path) for task in queue.claim("gpu", "worker", limit=5)]
    (stitch,) = queue.claim("gpu", "worker")
    keys.append(keep(stitch, tmp_path, "half.mp4"))
    age_all()
    pruned = prune()
    assert (pruned.tasks, pruned.files) == (0, 0)
    assert all(storage.exists(key) for key in keys)


def test_dependency_stays_until_what_reads_it_is_complete(everything_is_old: Owner) -> None:
    (first,) = make_tasks(everything_is_old)
    (task,) = queue.claim("gpu", "worker")
    queue.complete(task.lease, Output("x"))
    (second,) = make_tasks(everything_is_old, depends_on=[{"task_id": str(first)}])
    age_all()
    assert prune().tasks == 0
    (task,) = queue.claim("gpu", "worker")
    assert task.inputs[str(first)]["output_location"] == "x"
    queue.complete(task.lease, Output("y"))
    assert prune().tasks == 1
    change(second, finished_at=LONG_AGO)
    assert prune().tasks == 1


def test_task_stays_when_it_still_holds_credits(everything_is_old: Owner) -> None:
    (task_id,) = make_tasks(everything_is_old, hold="1")
    (task,) = queue.claim("gpu", "worker")
    provider_job = {"task_id": task_id, "run": 0, "key": "k", "life": 0, "provider": "fal", "model": "m"}
    with database.transaction() as connection:
        if "account" in tables.provider_jobs.c:
            provider_job["account"] = "fal"
        connection.execute(
            sa.insert(tables.provider_jobs).values(**provider_job, state="unknown", ended_at=sa.func.now())
        )
    database.call(
        "fail_task", p_task_id=task.id, p_lease_id=task.lease_id, p_error_kind="x", p_error_message="x",
        p_retryable=False,
    )  # fmt: skip
    age_all()
    assert prune().tasks == 0
    assert row_of(task_id).status == "Failed"


def test_task_stays_when_one_that_reads_it_is_created_at_that_moment(everything_is_old: Owner) -> None:
    (old,) = make_tasks(everything_is_old)
    (task,) = queue.claim("gpu", "worker")
    queue.complete(task.lease, Output("x"))
    age_all()
    creating = create_rows(everything_is_old.project_id, depends_on=[{"task_id": str(old)}])
    meet(creating, call("prune_tasks", p_age=timedelta(days=90), p_limit=10))
    assert row_of(old).status == "Complete"
    (reader,) = queue.claim("gpu", "worker")
    assert reader.inputs[str(old)]["output_location"] == "x"


def test_files_of_lost_leases_and_deleted_tasks_go_and_uploads_stay(any_storage: Owner, tmp_path: Path) -> None:
    owner = any_storage
    generation = {"as": "generation", "type": "video"}
    won, lost, deleted = make_tasks(owner, 3, placement=generation)
    first = {task.id: task for task in queue.claim("gpu", "slow", limit=3)}
    late = keep(first[won], tmp_path, "film.mp4")
    with database.transaction() as connection:
        connection.execute(sa.update(tables.tasks).values(leased_until=LONG_AGO))
    queue.claim("gpu", "another", limit=3)
    with database.transaction() as connection:
        connection.execute(sa.update(tables.tasks).values(run_after=LONG_AGO))
    second = {task.id: task for task in queue.claim("gpu", "another", limit=3)}
    winner = finish(second[won], tmp_path)
    gone = [keep(second[lost], tmp_path, "a.mp4"), keep(second[deleted], tmp_path, "b.mp4")]
    upload = f"{owner.project_id}/uploads/a.png"
    storage.put(tmp_path / "a.mp4", upload)
    stray = f"{uuid4()}/{uuid4()}/1/stray.mp4"
    storage.put(tmp_path / "a.mp4", stray)

    # A worker that lost its lease writes on, beside the winner; its completion is refused.
    assert keep(first[won], tmp_path, "film.mp4") == late != winner
    with pytest.raises(LeaseLostError):
        queue.complete(first[won].lease, Output(late))
    assert [row.location for row in rows(tables.generations)] == [winner]

    assert prune(dry_run=True).files == 1  # `late`: the other two may still be running
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.tasks).where(tables.tasks.c.id == deleted))
    database.call("cancel_task", p_task_id=lost, p_reason="x")
    assert prune().files == 3
    assert [storage.exists(key) for key in (late, *gone, winner, upload, stray)] == [False] * 3 + [True] * 3
    assert prune(deleted_projects=True).files == 1
    assert not storage.exists(stray)
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.generations))
        connection.execute(sa.delete(tables.tasks))
    assert prune().files == 1
    assert not storage.exists(winner)


def test_files_stay_when_they_are_young(owner: Owner, tmp_path: Path) -> None:
    (task_id,) = make_tasks(owner)
    (task,) = queue.claim("gpu", "worker")
    key = keep(task, tmp_path, "a.mp4")
    database.call("cancel_task", p_task_id=task_id, p_reason="x")
    assert prune().files == 0
    assert storage.exists(key)


def test_empty_placeholder_goes_with_its_failed_travel(everything_is_old: Owner) -> None:
    kept = insert(tables.generations, project_id=everything_is_old.project_id, type="image")
    created = create_task("travel_orchestrator", TRAVEL, project_id=everything_is_old.project_id)
    database.call("cancel_task", p_task_id=created.task_id, p_reason="x")
    age_all()
    assert prune().tasks == 1
    assert [row.id for row in rows(tables.generations)] == [kept]
