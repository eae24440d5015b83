"""Lists and their pages, trees, the cost of a batch, the history of an image, and URLs for browsers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import fsspec
import pytest
import sqlalchemy as sa
from fsspec.implementations.memory import MemoryFileSystem

from db import tables
from tasks_lib import (
    create_task,
    create_tasks,
    database,
    get_batch,
    get_history,
    get_task,
    get_tree,
    list_tasks,
    media_url,
    queue,
)
from tasks_lib.creation import plant_children
from tasks_lib.errors import NotFoundError, StorageError, TaskValidationError
from tasks_lib.queue import Output
from tasks_lib.settings import get_settings
from tests.benchmarks.claim import fill
from tests.conftest import Owner, make_owner
from tests.integration.test_plans import nodes_of
from tests.integration.types.test_helpers import insert, rows

URL = "https://example.com/1.jpg"
TRAVEL: dict[str, Any] = {"image_urls": [URL] * 3, "base_prompts": ["a walk"], "segment_frames": 9}


def pictures(owner: Owner, *prompts: str, **params: Any) -> list[UUID]:
    requests = [
        {"task_type": "z_image_turbo", "params": {"prompt": prompt, **params}, "project_id": owner.project_id}
        for prompt in prompts
    ]
    return [task.task_id for task in create_tasks(requests)]


def ids(**filters: Any) -> list[UUID]:
    return [task.id for task in list_tasks(**filters)]


def test_tasks_are_found_when_they_pass_every_filter(owner: Owner) -> None:
    shot = insert(tables.shots, project_id=owner.project_id, name="a shot")
    boats = pictures(owner, "a red boat", "a blue boat", shot_id=str(shot))
    house = pictures(owner, "a red house")
    travel = create_task("travel_orchestrator", TRAVEL | {"shot_id": str(shot)}, project_id=owner.project_id).task_id
    (task,) = queue.claim("api", "worker", task_id=boats[0])
    queue.complete(task.lease, Output("boat.png"))

    assert ids() == [travel, *house, *reversed(boats)]
    assert ids(shot_id=shot) == [travel, *reversed(boats)]
    assert ids(text="red") == [*house, boats[0]]
    assert ids(text="red -house") == [boats[0]]
    assert ids(text="prompt") == []  # a name of a parameter, and no word in one
    assert ids(batch_id=get_task(boats[0]).batch_id) == boats
    assert ids(status="Complete") == [boats[0]]
    assert ids(status=["Complete", "Pending"], task_type="z_image_turbo") == [*house, *reversed(boats)]
    created = get_task(house[0]).created_at
    assert ids(created_after=created) == [travel, *house]
    assert ids(created_before=created) == list(reversed(boats))
    assert ids(created_after=created, created_before=created + timedelta(microseconds=1)) == house


@pytest.mark.parametrize("by", ["project_id", "nothing", "batch_id"])
def test_pages_skip_and_repeat_nothing_when_tasks_are_created_between_them(owner: Owner, by: str) -> None:
    made = pictures(owner, *"abcdefg")
    other = insert(tables.projects, user_id=owner.user_id, name="another")
    elsewhere = Owner(owner.user_id, other, owner.token)
    made = [*made, *pictures(elsewhere, "h", "i")] if by == "nothing" else made
    scopes: dict[str, dict[str, Any]] = {
        "project_id": {"project_id": owner.project_id},
        "nothing": {},
        "batch_id": {"batch_id": get_task(made[0]).batch_id},
    }
    found: list[UUID] = []
    after = None
    while page := list_tasks(limit=2, after=after, **scopes[by]):
        found += [task.id for task in page]
        after = page[-1].cursor
        pictures(owner, "new")
    assert found == (made if by == "batch_id" else made[::-1])
    with pytest.raises(TaskValidationError, match="must be the `cursor` of a task"):
        list_tasks(after="yesterday")


def test_list_has_only_the_callers_when_others_have_tasks(owner: Owner) -> None:
    mine = pictures(owner, "mine")
    stranger = make_owner("stranger")
    shot = insert(tables.shots, project_id=owner.project_id, name="a shot")
    for filters in ({}, {"project_id": owner.project_id}, {"shot_id": shot}, {"text": "mine"}):
        assert list_tasks(token=stranger.token, **filters) == []
    assert ids() == mine


def test_tree_has_its_children_in_order_when_a_travel_runs(owner: Owner) -> None:
    created = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id)
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    tree = get_tree(created.task_id)
    assert tree.task == get_task(created.task_id)
    assert [(child.task.child_key, child.children) for child in tree.children] == [
        ("segment_000", ()),
        ("segment_001", ()),
        ("stitch", ()),
    ]
    assert get_tree(tree.children[0].task.id).task.parent_task_id == travel.id


def test_batch_costs_what_its_tasks_and_their_children_cost(owner: Owner) -> None:
    picture = {"task_type": "z_image_turbo", "params": {"prompt": "a boat"}, "project_id": owner.project_id}
    film = {"task_type": "travel_orchestrator", "params": TRAVEL, "project_id": owner.project_id}
    batch = [task.task_id for task in create_tasks([picture, picture, film])]
    (task,) = queue.claim("api", "worker", task_id=batch[0])
    queue.complete(task.lease, Output("boat.png", cost=Decimal("0.005")))
    (travel,) = queue.claim("api", "host", hosted=True)
    plant_children(travel)
    (segment, _) = queue.claim("gpu", "worker", limit=2)
    queue.complete(segment.lease, Output("segment.mkv", cost=Decimal("0.25")))

    by_id, by_task = get_batch(str(get_task(batch[0]).batch_id)), get_batch(batch[2])
    assert by_id == by_task
    assert {status: (part.tasks, part.cost) for status, part in by_id.by_status.items()} == {
        "Complete": (1, Decimal("0.005")),
        "Pending": (1, Decimal(0)),
        "Processing": (1, Decimal("0.25")),
    }
    assert (by_id.tasks, by_id.cost) == (3, Decimal("0.255"))
    with pytest.raises(NotFoundError, match="there is no batch"):
        get_batch(batch[0], token=make_owner("stranger").token)


def test_history_goes_back_to_the_first_picture_when_edits_were_edited(owner: Owner) -> None:
    def make(task_type: str, location: str, **params: Any) -> UUID:
        created = create_task(task_type, {"prompt": location, **params}, project_id=owner.project_id)
        (task,) = queue.claim("api", "worker", task_id=created.task_id)
        queue.complete(task.lease, Output(location, {"media": {"width": 64}}))
        return created.task_id

    def generation(location: str) -> str:
        return str(next(row.id for row in rows(tables.generations) if row.location == location))

    first = make("z_image_turbo", "first.png", seed=7)
    make("magic_edit", "beside.png", image_url=URL, based_on=generation("first.png"))
    own = {"image_url": URL, "create_as_generation": True}
    make("magic_edit", "second.png", based_on=generation("first.png"), **own)
    third = make("z_image_turbo_i2i", "third.png", based_on=generation("second.png"), **own)
    make("z_image_turbo", "of somebody else.png")

    steps = get_history(generation("third.png"))
    assert [(step.location, step.variant_type, step.is_primary) for step in steps] == [
        ("first.png", "original", True),
        ("beside.png", "magic_edit", False),
        ("second.png", "original", True),
        ("third.png", "original", True),
    ]
    assert steps[0].made["params"]["seed"] == 7
    assert [step.made["task_type"] for step in steps[1:]] == ["magic_edit", "magic_edit", "z_image_turbo_i2i"]
    assert get_history(third) == steps
    assert [step.location for step in get_history(first)] == ["first.png", "beside.png"]
    with database.transaction() as connection:
        connection.execute(
            sa.update(tables.generations)
            .where(tables.generations.c.location == "first.png")
            .values(based_on=UUID(generation("third.png")))
        )
    assert len(get_history(third)) == 4  # a ring, made by hand
    with pytest.raises(NotFoundError, match="there is no generation"):
        get_history(third, token=make_owner("stranger").token)


class SigningFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A storage that signs URLs, as s3 and gs do."""

    protocol = "signing"

    def sign(self, path: str, expiration: int = 100, **_: Any) -> str:
        return f"https://signed.example.com/{path.partition('://')[2]}?seconds={expiration}"


def test_url_is_public_or_signed_as_the_settings_say(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"{owner.project_id}/{uuid4()}/1/a film.mp4"

    def told(seconds: float | None = None, **settings: str) -> str:
        for name, value in settings.items():
            monkeypatch.setenv(f"UNITASK_{name.upper()}", value)
        get_settings.cache_clear()
        return media_url(key, seconds=seconds)

    assert told() == f"{get_settings().resolved_storage_url}/{key}"
    fsspec.register_implementation("signing", SigningFileSystem, clobber=True)
    assert told(storage_url="signing://media") == f"https://signed.example.com/media/{key}?seconds=3600"
    assert told(60).endswith("?seconds=60")
    assert told(media_url_seconds="300").endswith("?seconds=300")
    assert told(public_media_url="https://media.example.com/") == (
        f"https://media.example.com/{key.replace(' ', '%20')}"
    )
    with pytest.raises(StorageError, match="UNITASK_PUBLIC_MEDIA_URL"):
        told(storage_url="memory://media", public_media_url="")
    for location in (f"{make_owner('stranger').project_id}/x/1/a.mp4", f"{owner.project_id}/../x", "", "/etc/passwd"):
        with pytest.raises(NotFoundError):
            media_url(location)


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """What is sent to Postgres within the block."""
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        sent.append((statement, values))

    sa.event.listen(database.get_engine(), "before_cursor_execute", note)
    yield sent
    sa.event.remove(database.get_engine(), "before_cursor_execute", note)


def test_lists_read_few_rows_by_their_indexes_when_the_table_is_full(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(finished=30_000, pending=200, users=3)
    monkeypatch.setenv("UNITASK_SERVICE_KEY", "the key of the service")
    get_settings.cache_clear()
    project = rows(tables.projects)[0].id
    with database.transaction() as connection:
        some = connection.execute(sa.select(tables.tasks).limit(1)).one()
    cursor = f"{some.created_at.isoformat()}_{some.id}"
    service: dict[str, Any] = {"token": "the key of the service"}
    queries: list[Callable[[], Any]] = [
        lambda: list_tasks(**service),
        lambda: list_tasks(project_id=project, **service),
        lambda: list_tasks(project_id=project, after=cursor, **service),
        lambda: list_tasks(project_id=project, status="Failed", **service),
        lambda: list_tasks(shot_id=uuid4(), **service),
        lambda: list_tasks(batch_id=uuid4(), **service),
        lambda: list_tasks(parent_task_id=uuid4(), **service),
        lambda: get_tree(some.id, **service),
        lambda: get_batch(some.id, **service),
    ]
    for number, query in enumerate(queries):
        with statements() as sent:
            query()
        statement, values = sent[-1]
        with database.get_engine().connect() as connection:
            answer = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values).scalar_one()
        plan = json.loads(answer) if isinstance(answer, str) else answer
        of_tasks = [node for node in nodes_of(plan[0]["Plan"]) if node.get("Relation Name") == "tasks"]
        assert of_tasks
        assert "Seq Scan" not in {node["Node Type"] for node in of_tasks}, number
        read = sum((n["Actual Rows"] + n.get("Rows Removed by Filter", 0)) * n["Actual Loops"] for n in of_tasks)
        assert read <= 600, f"query {number} read {read} rows"
