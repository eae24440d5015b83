"""What the commands are given."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks_lib import accounts
from tasks_lib.auth import authenticate
from tasks_lib.errors import TaskValidationError

ProjectOption = Annotated[str | None, typer.Option("--project", help="id of the project; not needed with only one")]
ParamsOption = Annotated[
    str | None, typer.Option("--params", help="a JSON file with the parameters; - reads them from stdin")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="name=value; the value is JSON, or else text")]


def project_or_only(project: str | None) -> str:
    """Return the given project, or else the caller's only one."""
    return project or str(accounts.only_project(authenticate()))


def read_params(source: str | None, settings: list[str] | None) -> dict[str, Any]:
    """Return the parameters of a JSON file (`-`: stdin), with `name=value` settings put over them."""
    return _read(source) | {name: _value(text) for name, text in map(split, settings or [])}


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
