"""What the commands are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError

from tasks_lib import accounts, client
from tasks_lib.arguments import STATUSES
from tasks_lib.auth import authenticate
from tasks_lib.creation import Dependency, public_type
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.ids import find_task_id, is_beginning
from tasks_lib.types.registry import task_types


def _public_types() -> list[str]:
    return sorted(name for name, declared in task_types().items() if declared.public)


TaskArgument = Annotated[str, typer.Argument(help="id of a task, or its beginning", metavar="TASK")]
TypeArgument = Annotated[
    str, typer.Argument(help="a name from `unitask types list`", autocompletion=_public_types, metavar="TYPE")
]
TypeOption = Annotated[str | None, typer.Option("--type", help="only this type", autocompletion=_public_types)]
StatusOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Pending, Processing, Complete, Failed or Cancelled; may be repeated", autocompletion=lambda: STATUSES
    ),
]
ProjectOption = Annotated[
    str | None, typer.Option("--project", help="id or name of the project; not needed with only one")
]
ParamsOption = Annotated[
    str | None, typer.Option("--params", help="a JSON file with the parameters; - reads them from stdin")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="name=value; the value is JSON, or else text")]
FileOption = Annotated[
    list[str] | None, typer.Option("--file", help="name=path: upload the file; where a list is taken, append it")
]
KeyOption = Annotated[str | None, typer.Option("--key", help="idempotency key: the same key makes nothing twice")]
PriorityOption = Annotated[int, typer.Option("--priority", help="-100 to 100, among your own tasks")]
DependsOnOption = Annotated[
    list[str] | None,
    typer.Option("--depends-on", help="task that must complete first, or TASK:run_anyway; may be repeated"),
]
WatchOption = Annotated[bool, typer.Option("--watch", help="stay, and show how it goes")]
QuoteOption = Annotated[bool, typer.Option("--quote", help="only say what it would cost")]


def project_or_only(project: str | None) -> str:
    """Return the id of the given project, or else of the caller's only one."""
    return str(accounts.only_project(authenticate()) if project is None else accounts.find_project(project))


def project_or_all(project: str | None) -> UUID | None:
    """Return the id of the given project, or none for all of the caller's."""
    return None if project is None else accounts.find_project(project)


def read_params(source: str | None, settings: list[str] | None) -> dict[str, Any]:
    """Return the parameters of a JSON file (`-`: stdin), with `name=value` settings put over them."""
    return _read(source) | {name: _value(text) for name, text in map(split, settings or [])}


def put_files(values: dict[str, Any], files: list[str] | None, task_type: str, project_id: str) -> dict[str, Any]:
    """Upload `name=path` files, and return the parameters with their references in them."""
    fields = public_type(task_type).params.model_json_schema()["properties"]
    for name, path in map(split, files or []):
        forms = (fields.get(name, {}), *fields.get(name, {}).get("anyOf", ()))
        takes_list = any(form.get("type") == "array" for form in forms)
        if takes_list and not isinstance(values.setdefault(name, []), list):
            raise TaskValidationError(f"`{name}` is set to something that is no list", name)
        reference = client.upload_media(path, project_id=project_id)
        values[name] = [*values[name], reference] if takes_list else reference
    return values


def dependency(text: str) -> Dependency:
    """Take `ID` or `ID:policy` apart."""
    beginning, _, policy = text.partition(":")
    try:
        return Dependency.model_validate({"task_id": find_task_id(beginning), "policy": policy or "fail"})
    except (ValidationError, NotFoundError) as error:
        if isinstance(error, NotFoundError) and is_beginning(beginning):
            raise
        raise TaskValidationError(f"`{text}` must be the id of a task, or ID:run_anyway", "depends_on") from None


def split(text: str) -> tuple[str, str]:
    """Take `name=value` apart."""
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise TaskValidationError(f"`{text}` must be name=value", "params")
    return name, value


def _read(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        values = json.loads(text)
    except OSError as error:
        raise TaskValidationError(f"cannot read `{source}`: {error.strerror}", "params") from None
    except ValueError as error:
        raise TaskValidationError(f"`{source}` is not JSON: {error}", "params") from None
    if not isinstance(values, dict):
        raise TaskValidationError(f"`{source}` must hold a JSON object", "params")
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
