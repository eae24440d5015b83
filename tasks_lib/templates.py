"""Templates: named parameter sets of a project, to create tasks from, each time with what differs.

What a template lacks of a request must be declared as left open when it is stored; what it has is checked then, and
everything when a task is made from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
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
from tasks_lib.params.base import Name, ParamGroup, Text, aliases_of, nearest
from tasks_lib.types.registry import task_types


@dataclass(frozen=True)
class Template:
    """A stored parameter set."""

    id: UUID
    project_id: UUID
    name: str
    task_type: str
    params: dict[str, Any]
    updated_at: datetime

    @property
    def open_fields(self) -> list[str]:
        """The required parameters that it leaves to each use of it; none where the row is not one of ours."""
        declared = task_types().get(self.task_type)
        if declared is None or not isinstance(self.params, dict):
            return []
        return [name for name in _required(declared.params) if name not in self.params]

    def with_overrides(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of one task: the template's, and in their place what is given here.

        Raises `TaskValidationError` for a template that somebody has stored without parameters.
        """
        if not isinstance(self.params, dict):
            raise TaskValidationError(f"the template `{self.name}` holds no parameters, store it again", "name")
        return {**self.params, **overrides}


@checked
def create_template(
    name: Name,
    task_type: Text,
    params: Mapping[str, Any],
    *,
    project_id: Id,
    open_fields: Sequence[Text] = (),
    token: Token = None,
) -> Template:
    """Store a parameter set under a name; one that is there already is replaced.

    `open_fields` are the required parameters that every use of it gives. Raises `TaskValidationError` for parameters
    that no request of the type could have, whatever the open ones are, and for a required one that is neither given
    nor open.
    """
    project = _project(project_id, token, "tasks:create")
    declared = public_type(task_type)
    _check(declared.name, declared.params, params, open_fields)
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


def _required(model: type[ParamGroup]) -> list[str]:
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _check(task_type: str, model: type[ParamGroup], params: Mapping[str, Any], open_fields: Sequence[str]) -> None:
    for name in open_fields:
        if name not in model.model_fields:
            near = nearest(name, [*model.model_fields])
            hint = f"; did you mean `{near}`?" if near else ""
            raise TaskValidationError(f"`{name}` cannot be left open: `{task_type}` has no such parameter{hint}", name)
        if name in params:
            raise TaskValidationError(f"`{name}` is given, and left open too", name)
    model.check_some(params)
    aliases = {name: [name, *aliases_of(field)] for name, field in model.model_fields.items()}
    missing = [name for name in _required(model) if not {*aliases[name]} & params.keys() and name not in open_fields]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise TaskValidationError(
            f"`{task_type}` requires {names}: give it, or leave it open for each use, by open_fields={missing!r}"
            f" or {' '.join(f'--open {name}' for name in missing)}",
            missing[0],
        )
    _check_together(model, params, [name for name in _required(model) if name in open_fields])


def _check_together(model: type[ParamGroup], params: Mapping[str, Any], missing: Sequence[str]) -> None:
    """Refuse what does not fit together, whatever is given for the missing parameters: some are tried in their place.

    Lists are tried in every length that could fit those that are given.
    """
    schema = model.model_json_schema()["properties"]
    longest = max((len(value) for value in params.values() if isinstance(value, list)), default=1)
    refused = None
    for count in range(1, longest + 3):
        for each in product((1, count), repeat=len(missing)):
            tried = {name: _some(schema[name], times) for name, times in zip(missing, each, strict=True)}
            try:
                model.parse({**params, **tried})
            except TaskValidationError as error:
                refused = error
            else:
                return
    if refused is not None and str(refused.field).partition("[")[0] not in missing:
        raise refused


def _some(schema: Mapping[str, Any], count: int) -> Any:
    """A value that a required parameter takes: an address is a prompt too."""
    if schema.get("type") == "array":
        return ["https://example.com/some"] * count
    return schema.get("minimum", 0) if schema.get("type") == "integer" else "https://example.com/some"


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
