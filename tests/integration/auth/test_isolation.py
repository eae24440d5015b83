"""Two users act at random, each also with what is the other's: neither ever reads or changes a row of the other."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from db import tables
from tasks_lib import (
    cancel_batch,
    cancel_task,
    create_task,
    create_task_from_template,
    create_tasks,
    create_template,
    database,
    delete_template,
    get_batch,
    get_history,
    get_task,
    get_template,
    get_tree,
    list_tasks,
    list_templates,
    media_url,
    quote,
    resolve_project_resolution,
    retry_task,
    upload_media,
    watch_project,
    watch_task,
)
from tasks_lib.errors import ConflictError, NotFoundError
from tests.conftest import Owner, make_owner
from tests.integration.auth.roles import READABLE, allowed, as_role, reader

STEPS = 500
"""Operations of each user."""
TYPE, PARAMS = "z_image_turbo_i2i", {"prompt": "a walk", "image_url": "https://example.com/0.jpg"}


@dataclass
class Person:
    """A user, what they have, and what state each of their tasks must be in."""

    owner: Owner
    sql: Connection
    shot: uuid.UUID
    generation: uuid.UUID
    upload: str
    tasks: dict[uuid.UUID, str] = field(default_factory=dict)

    @property
    def access(self) -> dict[str, Any]:
        return {"project_id": self.owner.project_id, "token": self.owner.token}

    def create(self, count: int = 1) -> None:
        request = {"task_type": TYPE, "params": PARAMS, "project_id": self.owner.project_id}
        made = create_tasks([request] * count, token=self.owner.token)
        self.tasks.update({task.task_id: "Pending" for task in made})

    def some_task(self, chance: random.Random) -> uuid.UUID:
        return chance.choice(list(self.tasks))


def own(me: Person, chance: random.Random) -> None:
    """Something that a user may do."""
    task, token = me.some_task(chance), me.owner.token
    match chance.choice(["create", "batch", "cancel", "retry", "read", "list", "template", "sql"]):
        case "create":
            me.create()
        case "batch":
            me.create(2)
        case "cancel":
            cancel_task(task, token=token)
            me.tasks[task] = "Cancelled"
        case "retry" if me.tasks[task] == "Pending":
            with pytest.raises(ConflictError):
                retry_task(task, token=token)
        case "retry":
            retry_task(task, token=token)
            me.tasks[task] = "Pending"
        case "read":
            assert get_task(task, token=token).status == me.tasks[task]
        case "list":
            assert {task.id for task in list_tasks(limit=10_000, token=token)} == set(me.tasks)
        case "template":
            create_template("a template", TYPE, PARAMS | {"prompt": me.owner.token[:8]}, **me.access)
        case "sql":
            assert set(me.sql.execute(sa.text("SELECT id FROM tasks")).scalars()) == set(me.tasks)


def with_a_template(me: Person, other: Person, call: Callable[..., Any]) -> Any:
    create_template("a template", TYPE, PARAMS, **other.access)
    return call("a template", project_id=other.owner.project_id, token=me.owner.token)


FOREIGN: dict[str, Callable[[Person, Person, uuid.UUID], Any]] = {
    "get_task": lambda me, _, task: get_task(task, token=me.owner.token),
    "cancel_task": lambda me, _, task: cancel_task(task, token=me.owner.token),
    "cancel_batch": lambda me, _, task: cancel_batch(task, token=me.owner.token),
    "retry_task": lambda me, _, task: retry_task(task, token=me.owner.token),
    "get_tree": lambda me, _, task: get_tree(task, token=me.owner.token),
    "get_batch": lambda me, _, task: get_batch(task, token=me.owner.token),
    "get_history": lambda me, other, _: get_history(other.generation, token=me.owner.token),
    "media_url": lambda me, other, _: media_url(other.upload, token=me.owner.token),
    "watch_task": lambda me, _, task: next(watch_task(task, token=me.owner.token)),
    "watch_project": lambda me, other, _: next(watch_project(other.owner.project_id, token=me.owner.token)),
    "quote": lambda me, other, _: quote(TYPE, PARAMS, project_id=other.owner.project_id, token=me.owner.token),
    "upload_media": lambda me, other, _: upload_media(
        __file__, project_id=other.owner.project_id, token=me.owner.token
    ),
    "create": lambda me, other, _: create_task(TYPE, PARAMS, project_id=other.owner.project_id, token=me.owner.token),
    "dependency": lambda me, _, task: create_task(TYPE, PARAMS, depends_on=[task], **me.access),
    "shot": lambda me, other, _: create_task(TYPE, {**PARAMS, "shot_id": str(other.shot)}, **me.access),
    "generation": lambda me, other, _: create_task(TYPE, {**PARAMS, "based_on": str(other.generation)}, **me.access),
    "upload": lambda me, other, _: create_task(TYPE, {**PARAMS, "image_url": other.upload}, **me.access),
    "resolution": lambda me, other, _: resolve_project_resolution(other.owner.project_id, token=me.owner.token),
    "get_template": lambda me, other, _: with_a_template(me, other, get_template),
    "use_template": lambda me, other, _: with_a_template(me, other, create_task_from_template),
    "delete_template": lambda me, other, _: with_a_template(me, other, delete_template),
    "list_templates": lambda me, other, _: list_templates(project_id=other.owner.project_id, token=me.owner.token),
}


def foreign(me: Person, other: Person, chance: random.Random) -> None:
    """Something with what is the other's: by the library it is not there, and by SQL neither."""
    task = other.some_task(chance)
    name = chance.choice([*FOREIGN, "list", "sql read", "sql write"])
    if name in FOREIGN:
        with pytest.raises(NotFoundError):
            FOREIGN[name](me, other, task)
    elif name == "list":
        assert list_tasks(project_id=other.owner.project_id, token=me.owner.token) == []
    elif name == "sql read":
        table = chance.choice(sorted(READABLE - {"task_types"}))
        mine = {"user_id": other.owner.user_id, "project_id": other.owner.project_id, "task_id": task, "id": task}
        columns = [column for column in tables.metadata.tables[table].columns if column.name in mine]
        theirs = sa.or_(*(column == mine[column.name] for column in columns if isinstance(column.type, sa.UUID)))
        assert me.sql.execute(sa.select(sa.func.count()).select_from(columns[0].table).where(theirs)).scalar_one() == 0
    else:
        statement = chance.choice(
            [
                f"UPDATE tasks SET priority = 1 WHERE id = '{task}'",
                f"DELETE FROM tasks WHERE id = '{task}'",
                f"SELECT unitask.cancel_task('{task}', 'mine')",
                f'SET ROLE "unitask_user_{other.owner.user_id.hex}"',
                "SELECT digest FROM user_api_tokens",
            ]
        )
        assert not allowed(me.sql, statement)


@pytest.fixture
def people(database_url: str, tmp_path: Path) -> Iterator[list[Person]]:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            owner = make_owner(name)
            with database.transaction() as connection:
                shot, generation = (
                    connection.execute(
                        sa.insert(table).values(project_id=owner.project_id, **values).returning(table.c.id)
                    ).scalar_one()
                    for table, values in (
                        (tables.shots, {"name": "a shot"}),
                        (tables.generations, {"type": "image", "location": "a.png"}),
                    )
                )
            sql = stack.enter_context(as_role(reader(owner.user_id)))
            upload = upload_media(picture, project_id=owner.project_id, token=owner.token)
            person = Person(owner, sql, shot, generation, upload)
            person.create()
            made.append(person)
        yield made


def test_neither_touches_a_row_of_the_other_when_two_users_act_at_random(people: list[Person]) -> None:
    chance = random.Random(4)
    turns = people * STEPS
    chance.shuffle(turns)
    for me in turns:
        (other,) = (person for person in people if person is not me)
        if chance.random() < 0.5:
            own(me, chance)
        else:
            foreign(me, other, chance)
    for me in people:
        with database.transaction() as connection:
            t = tables.tasks
            rows = connection.execute(sa.select(t.c.id, t.c.status).where(t.c.project_id == me.owner.project_id))
            assert {row.id: row.status for row in rows} == me.tasks
        for name in READABLE - {"task_types"}:
            found = me.sql.execute(sa.text(f"SELECT * FROM {name}")).mappings().all()
            for row in found:
                assert row.get("user_id", me.owner.user_id) == me.owner.user_id, name
                assert row.get("project_id", me.owner.project_id) == me.owner.project_id, name
                assert row.get("task_id") in {None, *me.tasks}, name
    assert all(set(person.tasks.values()) == {"Pending", "Cancelled"} for person in people)
