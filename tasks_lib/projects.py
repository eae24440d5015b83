"""A person's own projects and their shots.

A user whom a login service vouches for (a verified JWT) begins here: their first project makes them known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field

from db import tables
from tasks_lib import database
from tasks_lib.arguments import Id, Token, checked
from tasks_lib.auth import Caller, authenticate, limits, require_project
from tasks_lib.client import to_id
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.params.base import Label
from tasks_lib.params.resolution import ASPECT_RATIOS


def _check_ratio(value: str) -> str:
    if value not in ASPECT_RATIOS:
        raise ValueError(f"there is no aspect ratio {value!r:.50}; there are {', '.join(ASPECT_RATIOS)}")
    return value


Ratio = Annotated[str, AfterValidator(_check_ratio)]
Position = Annotated[int, Field(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class Project:
    """A project. Its aspect ratio decides the size of what is asked for without one; without a ratio, 1:1."""

    id: UUID
    user_id: UUID
    name: str
    aspect_ratio: str | None
    created_at: datetime


@dataclass(frozen=True)
class Shot:
    """A shot of a project: `shot_id` of a task puts its result there."""

    id: UUID
    project_id: UUID
    name: str
    position: int
    created_at: datetime


T = TypeVar("T", Project, Shot)


@checked
def create_project(
    name: Label, *, aspect_ratio: Ratio | None = None, user_id: Id | None = None, token: Token = None
) -> Project:
    """Make a project of the caller's own; the service key says with `user_id` whose.

    Raises `ConflictError` where the user has a project of that name.
    """
    caller = _changing(token)
    owner = caller.user_id if user_id is None else to_id(user_id)
    if owner is None:
        raise TaskValidationError("the service key must say whose project it is: `user_id`", "user_id")
    if not caller.is_service and owner != caller.user_id:
        raise NotFoundError(f"there is no user {owner}")
    arguments = {"p_user_id": owner, "p_name": name, "p_aspect_ratio": aspect_ratio}
    # Whoever has shown a credential of their own may begin; the service names users that are there.
    rows = database.call("create_project", **arguments, p_may_begin=not caller.is_service)
    return _one(Project, rows)


@checked
def list_projects(*, user_id: Id | None = None, token: Token = None) -> list[Project]:
    """The caller's projects by name; the service key sees everybody's, or those of one user."""
    caller = authenticate(token)
    caller.require("tasks:read")
    p = tables.projects
    statement = sa.select(*_columns(Project, p)).order_by(p.c.name, p.c.id)
    for owner in (None if caller.is_service else caller.user_id, None if user_id is None else to_id(user_id)):
        if owner is not None:
            statement = statement.where(p.c.user_id == owner)
    with database.transaction() as connection:
        return [Project(**row) for row in connection.execute(statement).mappings()]


@checked
def set_project(
    project_id: Id, *, name: Label | None = None, aspect_ratio: Ratio | None = None, token: Token = None
) -> Project:
    """Change the name or aspect ratio of a project; what is left out stays. Tasks that are there keep their size."""
    project = require_project(_changing(token), to_id(project_id))
    rows = database.call("set_project", p_project_id=project.id, p_name=name, p_aspect_ratio=aspect_ratio)
    return _one(Project, rows)


@checked
def create_shot(name: Label, *, project_id: Id, token: Token = None) -> Shot:
    """Make a shot, the last of a project."""
    project = require_project(_changing(token), to_id(project_id))
    return _one(Shot, database.call("create_shot", p_project_id=project.id, p_name=name))


@checked
def list_shots(*, project_id: Id, token: Token = None) -> list[Shot]:
    """The shots of a project in their order."""
    caller = authenticate(token)
    caller.require("tasks:read")
    project, s = require_project(caller, to_id(project_id)), tables.shots
    statement = sa.select(*_columns(Shot, s)).where(s.c.project_id == project.id).order_by(s.c.position, s.c.id)
    with database.transaction() as connection:
        return [Shot(**row) for row in connection.execute(statement).mappings()]


@checked
def set_shot(shot_id: Id, *, name: Label | None = None, position: Position | None = None, token: Token = None) -> Shot:
    """Change the name or place of a shot; what is left out stays."""
    caller, id_, s = _changing(token), to_id(shot_id), tables.shots
    with database.transaction() as connection:
        project_id = connection.scalar(sa.select(s.c.project_id).where(s.c.id == id_))
    try:
        require_project(caller, project_id or id_)
    except NotFoundError:
        raise NotFoundError(f"there is no shot {id_}") from None
    return _one(Shot, database.call("set_shot", p_shot_id=id_, p_name=name, p_position=position))


def _changing(token: Token) -> Caller:
    caller = authenticate(token)
    caller.require("tasks:create")
    limits.count_change(caller)
    return caller


def _columns(kind: type[Any], table: sa.Table) -> list[sa.Column[Any]]:
    return [table.c[field.name] for field in fields(kind)]


def _one(kind: type[T], rows: list[dict[str, Any]]) -> T:
    """The row that a function of the database answers, which has more columns than are told."""
    if not rows:
        raise NotFoundError(f"there is no such {kind.__name__.lower()} any more")
    return kind(**{field.name: rows[0][field.name] for field in fields(kind)})
