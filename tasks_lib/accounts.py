"""Users and their projects, for operators and for the demo."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.arguments import checked
from tasks_lib.auth import Caller, authenticate
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.params.base import Label


@checked
def ensure_user(name: Label) -> UUID:
    """The user of that name, made if there is none yet."""
    users = tables.users
    with database.transaction() as connection:
        # Two that make the same user at once: the second waits and finds it.
        connection.execute(sa.text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))
        found: UUID | None = connection.scalar(sa.select(users.c.id).where(users.c.name == name).limit(1))
        if found is None:
            found = connection.execute(sa.insert(users).values(name=name).returning(users.c.id)).scalar_one()
    return found


def find_user(name: str) -> UUID:
    """The user of that name. Raises `NotFoundError`."""
    users = tables.users
    with database.transaction() as connection:
        found: UUID | None = connection.scalar(sa.select(users.c.id).where(users.c.name == name).limit(1))
    if found is None:
        raise NotFoundError(f"there is no user `{name}`")
    return found


@checked
def ensure_project(user_id: UUID, name: Label | None = None, aspect_ratio: str | None = None) -> UUID:
    """Return the user's project of that name (without one: their oldest), made if there is none yet."""
    projects = tables.projects
    own = [projects.c.user_id == user_id, *([projects.c.name == name] if name else [])]
    with database.transaction() as connection:
        connection.execute(
            sa.select(tables.users.c.id).where(tables.users.c.id == user_id).with_for_update(key_share=True)
        )
        found: UUID | None = connection.scalar(
            sa.select(projects.c.id).where(*own).order_by(projects.c.created_at).limit(1)
        )
        if found is None:
            made = sa.insert(projects).values(user_id=user_id, name=name or "default", aspect_ratio=aspect_ratio)
            found = connection.execute(made.returning(projects.c.id)).scalar_one()
    return found


def find_project(text: str) -> UUID:
    """The caller's project of that id or name. Raises `NotFoundError`, the same for one of somebody else's."""
    caller = authenticate()
    with suppress(ValueError):
        # Looked up by who needs it.
        return UUID(text)
    projects = tables.projects
    own = [] if caller.is_service else [projects.c.user_id == caller.user_id]
    with database.transaction() as connection:
        named = sa.select(projects.c.id).where(projects.c.name == text, *own).limit(2)
        found: list[UUID] = list(connection.scalars(named))
    if not found:
        raise NotFoundError(f"there is nothing with the id {text!r:.80}, and no project of yours has that name")
    if len(found) > 1:
        raise TaskValidationError(f"several projects are named `{text}`: give the id", "project_id")
    return found[0]


def only_project(caller: Caller) -> UUID:
    """The caller's project, if there is exactly one."""
    projects = tables.projects
    if caller.is_service:
        raise TaskValidationError("the service key belongs to no project; name one with --project", "project_id")
    with database.transaction() as connection:
        found = connection.execute(
            sa.select(projects.c.id, projects.c.name)
            .where(projects.c.user_id == caller.user_id)
            .order_by(projects.c.name)
        ).all()
    if not found:
        raise NotFoundError("you have no project yet: `unitask project create NAME` makes one")
    if len(found) > 1:
        named = ", ".join(f"{row.name} ({row.id})" for row in found)
        raise TaskValidationError(f"you have several projects; name one with --project: {named}", "project_id")
    project_id: UUID = found[0].id
    return project_id
