"""The life of a task on a real Postgres: from its creation to every one of its ends."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import (
    cancel_task,
    create_task,
    create_tasks,
    create_travel_between_images_task,
    database,
    get_task,
    list_tasks,
    queue,
    retry_task,
)
from tasks_lib.creation import plant_children
from tasks_lib.errors import ConflictError, EngineError, LeaseLostError, NotFoundError, TaskValidationError
from tasks_lib.queue import ClaimedTask, Output
from tests.conftest import Owner, make_owner

IMAGES = [f"https://example.com/{i}.jpg" for i in range(4)]
TRAVEL: dict[str, Any] = {"image_urls": IMAGES, "base_prompts": ["a walk"], "segment_frames": 9}
OUTPUT = Output("somewhere/film.mp4", {"media": {"frames": 9}, "provenance": {"method": "flow"}})


def start_travel(owner: Owner, **params: Any) -> ClaimedTask:
    """A travel whose children are planted, hosted by a worker called `host`."""
    create_travel_between_images_task(TRAVEL, project_id=owner.project_id, **params)
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    return travel


def claim_work(limit: int = 10) -> list[ClaimedTask]:
    return queue.claim("gpu", "worker", limit=limit)


def count(table: sa.Table, **values: Any) -> int:
    statement = sa.select(sa.func.count()).select_from(table)
    for name, value in values.items():
        statement = statement.where(table.c[name] == value)
    with database.transaction() as connection:
        return connection.execute(statement).scalar_one()


def test_travel_completes_when_all_its_children_have(owner: Owner) -> None:
    travel = start_travel(owner)
    segments = claim_work()
    assert [task.child_key for task in segments] == ["segment_000", "segment_001", "segment_002"]
    for segment in segments[:2]:
        queue.complete(segment.lease, OUTPUT)
    assert claim_work() == []
    assert get_task(travel.id).percent == 50

    queue.complete(segments[2].lease, OUTPUT)
    (stitch,) = claim_work()
    assert stitch.task_type == "travel_stitch"
    assert stitch.inputs["segment_001"]["output_location"] == OUTPUT.location
    assert get_task(travel.id).status == "Processing"
    queue.complete(stitch.lease, Output("film.mp4", {"media": {"frames": 25}}))

    done = get_task(travel.id)
    assert (done.status, done.output_location) == ("Complete", "film.mp4")
    with database.transaction() as connection:
        generations = connection.execute(
            sa.select(tables.generations).order_by(tables.generations.c.child_order.nulls_first())
        ).all()
    assert [row.child_order for row in generations] == [None, 0, 1, 2]
    assert generations[0].location == "film.mp4"
    assert {row.parent_generation_id for row in generations[1:]} == {generations[0].id}
    assert count(tables.generation_variants, is_primary=True) == 4


def test_completion_changes_nothing_when_repeated(owner: Owner) -> None:
    start_travel(owner)
    segment = claim_work(1)[0]
    queue.complete(segment.lease, OUTPUT)
    before = count(tables.task_events), count(tables.generation_variants), count(tables.credit_ledger)
    queue.complete(segment.lease, OUTPUT)
    assert (count(tables.task_events), count(tables.generation_variants), count(tables.credit_ledger)) == before


def test_travel_fails_with_the_first_cause_when_a_segment_fails_for_good(owner: Owner) -> None:
    travel = start_travel(owner)
    segments = claim_work()
    queue.fail(segments[1].lease, EngineError("the image is broken"))
    assert get_task(travel.id).status == "Processing"
    queue.complete(segments[0].lease, OUTPUT)
    queue.complete(segments[2].lease, OUTPUT)
    failed = get_task(travel.id)
    cause = f"travel_segment {str(segments[1].id)[:8]} failed: the image is broken"
    assert (failed.status, failed.error_message) == ("Failed", cause)
    stitch = list_tasks(parent_task_id=travel.id, task_type="travel_stitch")[0]
    assert (stitch.status, stitch.error_kind, stitch.error_message) == ("Failed", "dependency", cause)

    again = retry_task(segments[1].id)
    assert set(again) == {travel.id, segments[1].id, stitch.id}
    (segment,) = claim_work()
    assert segment.id == segments[1].id
    assert segment.lease_id > segments[1].lease_id
    queue.complete(segment.lease, OUTPUT)
    queue.complete(claim_work()[0].lease, OUTPUT)
    assert get_task(travel.id).status == "Complete"


def test_retryable_failure_comes_back_until_its_attempts_are_used(owner: Owner) -> None:
    start_travel(owner)
    segment_id = claim_work(1)[0].id
    for attempt in (1, 2, 3):
        with database.transaction() as connection:
            connection.execute(sa.update(tables.tasks).values(run_after=sa.func.now()))
        held = queue.claim("gpu", "worker", task_id=segment_id) if attempt > 1 else None
        task = held[0] if held else None
        lease = task.lease if task else queue.Lease(segment_id, 1)
        queue.fail(lease, EngineError("out of memory", retryable=True))
        assert get_task(segment_id).attempt == attempt
    assert get_task(segment_id).status == "Failed"


def test_lease_is_lost_when_another_worker_rescued_the_task(owner: Owner) -> None:
    start_travel(owner)
    old = claim_work(1)[0]
    expire(old)
    with database.transaction() as connection:
        connection.execute(sa.update(tables.tasks).values(run_after=sa.func.now()))
    queue.claim("gpu", "another")
    new = get_task(old.id)
    assert new.status == "Pending"
    with pytest.raises(LeaseLostError):
        queue.complete(old.lease, OUTPUT)
    with pytest.raises(LeaseLostError):
        queue.report_progress(old.lease, queue.Progress(10))
    assert queue.heartbeat("worker", [old.lease]).lost == {old.lease}


def expire(task: ClaimedTask) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.update(tables.tasks)
            .where(tables.tasks.c.id == task.id)
            .values(leased_until=sa.func.now() - sa.text("interval '1 second'"))
        )


def test_adopting_host_plants_nothing_twice_when_the_first_host_died(owner: Owner) -> None:
    travel = start_travel(owner)
    expire(travel)
    (adopted,) = queue.claim("api", "second host", hosted=True)
    assert (adopted.id, adopted.attempt, adopted.lease_id) == (travel.id, 1, travel.lease_id + 1)
    plant_children(adopted)
    assert count(tables.tasks, parent_task_id=travel.id) == 4
    with pytest.raises(LeaseLostError):
        plant_children(travel)


def test_travel_is_settled_when_nobody_hosts_it(owner: Owner) -> None:
    travel = start_travel(owner)
    queue.give_back(travel.lease)
    for segment in claim_work():
        queue.complete(segment.lease, OUTPUT)
    queue.complete(claim_work()[0].lease, OUTPUT)
    assert get_task(travel.id).status == "Complete"


def test_children_are_cancelled_when_their_parent_is(owner: Owner) -> None:
    travel = start_travel(owner)
    segment = claim_work(1)[0]
    assert len(cancel_task(travel.id)) == 5
    assert {task.status for task in list_tasks()} == {"Cancelled"}
    assert queue.heartbeat("worker", [segment.lease]).lost == {segment.lease}
    with pytest.raises(LeaseLostError):
        queue.complete(segment.lease, OUTPUT)
    assert cancel_task(travel.id) == []


def test_ledger_is_level_when_a_travel_fails(owner: Owner) -> None:
    travel = start_travel(owner)
    cancel_task(travel.id)
    with database.transaction() as connection:
        rows = connection.execute(sa.select(tables.credit_ledger)).all()
    assert sum(row.amount for row in rows) == 0
    assert sorted(row.kind for row in rows) == ["hold"] * 5 + ["release"] * 5


def test_repeated_create_answers_the_first_when_the_key_is_the_same(owner: Owner) -> None:
    first = create_travel_between_images_task(TRAVEL, project_id=owner.project_id, idempotency_key="k")
    second = create_travel_between_images_task(TRAVEL, project_id=owner.project_id, idempotency_key="k")
    assert (second.task_id, second.created) == (first.task_id, False)
    with pytest.raises(ConflictError, match="idempotency_key"):
        create_travel_between_images_task(TRAVEL, project_id=owner.project_id, idempotency_key="k", priority=1)
    assert count(tables.tasks) == 1
    assert count(tables.generations) == 1


def test_batch_stores_nothing_when_one_row_is_refused(owner: Owner) -> None:
    good = {"task_type": "travel_orchestrator", "params": TRAVEL, "project_id": owner.project_id}
    bad = {**good, "params": {**TRAVEL, "segment_frames": -1}}
    worse = {**good, "params": {**TRAVEL, "imge_urls": []}}
    with pytest.raises(TaskValidationError) as caught:
        create_tasks([good, bad, worse])
    assert [(r.index, r.field) for r in caught.value.refusals] == [(1, "segment_frames[0]"), (2, "imge_urls")]
    assert "did you mean `image_urls`" in str(caught.value)
    assert count(tables.tasks) == 0


def test_dependency_of_another_project_is_answered_as_missing(owner: Owner) -> None:
    stranger = make_owner("stranger")
    theirs = create_travel_between_images_task(TRAVEL, project_id=stranger.project_id, token=stranger.token)
    with pytest.raises(NotFoundError, match=f"there is no task {theirs.task_id}"):
        create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id, depends_on=[theirs.task_id])
    with pytest.raises(NotFoundError, match="there is no project"):
        create_task("travel_orchestrator", TRAVEL, project_id=stranger.project_id)
    with pytest.raises(NotFoundError):
        get_task(theirs.task_id)


def test_task_waits_for_its_dependency_and_fails_with_it(owner: Owner) -> None:
    first = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    second = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id, depends_on=[first.task_id])
    assert len(queue.claim("api", "host", limit=5, hosted=True)) == 1
    cancel_task(first.task_id, reason="not wanted")
    assert (
        get_task(second.task_id).error_message == f"travel_orchestrator {str(first.task_id)[:8]} cancelled: not wanted"
    )
    late = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id, depends_on=[first.task_id])
    assert late.status == "Failed"


def test_user_with_less_running_goes_first_when_two_wait(owner: Owner) -> None:
    other = make_owner("other")
    for _ in range(3):
        create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    create_task("travel_orchestrator", TRAVEL, project_id=other.project_id, token=other.token)
    claimed = [queue.claim("api", "host", hosted=True)[0].project_id for _ in range(2)]
    assert set(claimed) <= {owner.project_id, other.project_id}
    for task in queue.claim("api", "host", limit=9, hosted=True):
        plant_children(task)


def test_status_is_guarded_when_moved_by_hand(owner: Owner) -> None:
    task = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    with pytest.raises(ConflictError, match="cannot go from Pending to Complete"), database.transaction() as connection:
        connection.execute(sa.update(tables.tasks).where(tables.tasks.c.id == task.task_id).values(status="Complete"))


def test_row_gets_its_run_type_when_inserted_by_sql(owner: Owner) -> None:
    with database.transaction() as connection:
        for name in ("travel_orchestrator", "something unknown"):
            connection.execute(
                sa.text("INSERT INTO tasks (project_id, task_type, params) VALUES (:project, :name, '{}')"),
                {"project": owner.project_id, "name": name},
            )
        rows = connection.execute(sa.select(tables.tasks.c.task_type, tables.tasks.c.run_type)).all()
    assert dict(map(tuple, rows)) == {"travel_orchestrator": "api", "something unknown": "gpu"}


def test_project_is_deleted_with_its_tasks_when_some_are_waiting(owner: Owner) -> None:
    start_travel(owner)
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.projects).where(tables.projects.c.id == owner.project_id))
    assert count(tables.tasks) == 0


def test_dependant_fails_when_its_dependency_is_deleted(owner: Owner) -> None:
    first = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    second = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id, depends_on=[first.task_id])
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.tasks).where(tables.tasks.c.id == first.task_id))
    assert get_task(second.task_id).status == "Failed"


def test_batch_of_a_thousand_is_quick_when_stored_at_once(owner: Owner) -> None:
    request = {"task_type": "travel_orchestrator", "params": TRAVEL, "project_id": owner.project_id}
    start = time.monotonic()
    created = create_tasks([request] * 1_000)
    assert len({answer.task_id for answer in created}) == 1_000
    assert time.monotonic() - start < 20
