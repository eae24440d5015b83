"""Templates: named parameter sets of a project, to create tasks from, each time with what differs.

A template need not be complete; what it has is checked when it is stored, and everything when a task is made from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from db import tables
from tasks_lib import database
from tasks_lib.arguments import Id, Token, checked
from tasks_lib.auth import authenticate, require_project
from tasks_lib.creation import MAX_PARAMS_BYTES, TaskCreated, create_task, public_type
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.params.base import Name, Text


@dataclass(frozen=True)
class Template:
    """A stored parameter set."""

    id: UUID
    project_id: UUID
    name: str
    task_type: str
    params: dict[str, Any]
    updated_at: datetime

    def with_overrides(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of one task: the template's, and in their place what is given here.

        Raises `TaskValidationError` for a template that somebody has stored without parameters.
        """
        if not isinstance(self.params, dict):
            raise TaskValidationError(f"the template `{self.name}` holds no parameters, store it again", "name")
        return {**self.params, **overrides}


@checked
def create_template(
    name: Name, task_type: Text, params: Mapping[str, Any], *, project_id: Id, token: Token = None
) -> Template:
    """Store a parameter set under a name; one that is there already is replaced.

    Raises `TaskValidationError` for parameters that no request of the type could have.
    """
    project = _project(project_id, token, "tasks:create")
    declared = public_type(task_type)
    declared.params.check_some(params)
    statement = insert(tables.task_templates).values(
        project_id=project, name=name, task_type=declared.name, params=_as_json(params)
    )
    changed = {"task_type": statement.excluded.task_type, "params": statement.excluded.params}
    with database.transaction() as connection:
        row = connection.execute(
            statement.on_conflict_do_update(
                index_elements=["project_id", "name"], set_={**changed, "updated_at": sa.func.now()}
            ).returning(*_COLUMNS)
        ).one()
    return Template(*row)


@checked
def list_templates(*, project_id: Id, token: Token = None) -> list[Template]:
    """All templates of a project, by name."""
    t = tables.task_templates
    project = _project(project_id, token, "tasks:read")
    with database.transaction() as connection:
        rows = connection.execute(sa.select(*_COLUMNS).where(t.c.project_id == project).order_by(t.c.name))
        return [Template(*row) for row in rows]


@checked
def get_template(name: Text, *, project_id: Id, token: Token = None) -> Template:
    """The template of that name. Raises `NotFoundError`."""
    t = tables.task_templates
    project = _project(project_id, token, "tasks:read")
    with database.transaction() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(t.c.project_id == project, t.c.name == name)).first()
    if row is None:
        raise NotFoundError(f"there is no template `{name}`")
    return Template(*row)


@checked
def delete_template(name: Text, *, project_id: Id, token: Token = None) -> None:
    """Remove a template; tasks that were made from it stay. Raises `NotFoundError`."""
    t = tables.task_templates
    project = _project(project_id, token, "tasks:create")
    with database.transaction() as connection:
        gone = connection.execute(sa.delete(t).where(t.c.project_id == project, t.c.name == name)).rowcount
    if not gone:
        raise NotFoundError(f"there is no template `{name}`")


@checked
def create_task_from_template(
    name: Name,
    overrides: Mapping[str, Any] | None = None,
    *,
    project_id: Id,
    token: Token = None,
    **options: Any,
) -> TaskCreated:
    """Create a task with a template's parameters and, in their place, what is given here; options of `create_task`."""
    template = get_template(name, project_id=project_id, token=token)
    params = template.with_overrides(overrides or {})
    return create_task(template.task_type, params, project_id=template.project_id, token=token, **options)


_COLUMNS = [tables.task_templates.c[name] for name in Template.__dataclass_fields__]


def _as_json(params: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(params, default=str)
    if len(text) > MAX_PARAMS_BYTES:
        raise TaskValidationError(f"the parameters take more than {MAX_PARAMS_BYTES} bytes", "params")
    values: dict[str, Any] = json.loads(text)
    return values


def _project(project_id: Id, token: Token, scope: str) -> UUID:
    caller = authenticate(token)
    caller.require(scope)
    try:
        wanted = project_id if isinstance(project_id, UUID) else UUID(project_id)
    except (ValueError, AttributeError, TypeError):
        raise TaskValidationError(f"`project_id` must be a UUID, not {project_id!r}", "project_id") from None
    return require_project(caller, wanted).id
