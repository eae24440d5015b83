"""The command `unitask`: people get tables and live bars, programs `--output json`."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.json import JSON
from rich.table import Table
from rich.text import Text

from tasks_lib import accounts, batches, client, creation, monitor, templates
from tasks_lib.auth import authenticate, issue_token, list_tokens, revoke_token
from tasks_lib.auth.tokens import DEFAULT_SCOPES
from tasks_lib.errors import TaskError, TaskValidationError
from tasks_lib.masking import mask_logs
from tasks_lib.providers.cli import provider_sim
from tasks_lib.types.registry import get_task_type, task_types

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
types_app = typer.Typer(no_args_is_help=True, help="The task types and their parameters.")
token_app = typer.Typer(no_args_is_help=True, help="Personal access tokens.")
app.add_typer(types_app, name="types")
app.add_typer(token_app, name="token")
templates_app = typer.Typer(no_args_is_help=True, help="Named parameter sets of a project.")
app.add_typer(templates_app, name="templates")
app.command()(provider_sim)

console = Console()
errors = Console(stderr=True)


class Output(StrEnum):
    """How a command answers."""

    table = "table"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs")]
ProjectOption = Annotated[str | None, typer.Option("--project", help="id of the project; not needed with only one")]


def main() -> None:
    """Run the command line; a mistake of the user's ends in one line, and a status of 1."""
    mask_logs()
    for point in entry_points(group="unitask.commands"):
        app.add_typer(point.load())
    try:
        app()
    except TaskError as error:
        errors.print(Text(f"{error}", style="red"))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def create(
    task_type: Annotated[str, typer.Argument(help="a name from `unitask types list`")],
    params: Annotated[str | None, typer.Option(help="a JSON file with the parameters; - reads them from stdin")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="name=value; the value is JSON, or else text")] = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", help="name=path: upload the file and append it to a list")
    ] = None,
    project: ProjectOption = None,
    key: Annotated[str | None, typer.Option(help="idempotency key: the same key makes nothing twice")] = None,
    priority: Annotated[int, typer.Option(help="-100 to 100, among your own tasks")] = 0,
    wait: Annotated[bool, typer.Option("--watch", help="stay, and show how it goes")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Create a task."""
    project_id = project or str(accounts.only_project(authenticate()))
    values = _read_params(params)
    for name, text in map(_split, set_ or []):
        values[name] = _value(text)
    for name, path in map(_split, file or []):
        values.setdefault(name, []).append(client.upload_media(path, project_id=project_id))
    created = creation.create_task(task_type, values, project_id=project_id, idempotency_key=key, priority=priority)
    if output is Output.json:
        _print_json(dataclasses.asdict(created))
    else:
        console.print(f"{created.task_type} [bold]{created.task_id}[/] is {created.status}", highlight=False)
    if wait:
        watch(str(created.task_id), output)


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(help="a .jsonl or .csv file: a row of parameters for each task")],
    task_type: Annotated[str | None, typer.Option("--type", help="a name from `unitask types list`")] = None,
    template: Annotated[
        str | None, typer.Option(help="a name from `unitask templates list`, instead of a type")
    ] = None,
    project: ProjectOption = None,
    key: Annotated[str | None, typer.Option(help="idempotency key: each row's own is made from it")] = None,
    skip_refused: Annotated[bool, typer.Option(help="create what is valid; else it is all or none")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Create a task for every row of a file, in one transaction."""
    project_id = project or accounts.only_project(authenticate())
    if (task_type is None) == (template is None):
        raise TaskValidationError("give --type or --template", "type")
    base = {}
    if template is not None:
        found = templates.get_template(template, project_id=project_id)
        task_type, base = found.task_type, found.params
    requests = [
        {
            "task_type": task_type,
            "params": {**base, **row},
            "project_id": project_id,
            "idempotency_key": f"{key}:{i}" if key else None,
        }
        for i, row in enumerate(batches.read_items(file, str(task_type)))
    ]
    report = batches.create_what_is_valid(requests) if skip_refused else batches.create_all(requests)
    if output is Output.json:
        return _print_json(dataclasses.asdict(report))
    for refusal in report.refused:
        errors.print(Text(f"row {refusal.index}: {refusal.message}", style="red"))
    return console.print(f"{len(report.created)} created, {len(report.already_there)} already there")


@app.command()
def watch(task_id: Annotated[str, typer.Argument(help="id of a task")], output: OutputOption = Output.table) -> None:
    """Show a task and its children until it has ended; the status is 0 only if it is Complete."""
    if output is Output.json:
        for task in client.watch_task(task_id):
            _print_json(_as_dict(task), compact=True)
    else:
        task = monitor.watch(task_id, console)
        _print_end(task)
    if task.status != "Complete":
        raise typer.Exit(1)


@app.command("list")
def list_(
    project: ProjectOption = None,
    status: Annotated[str | None, typer.Option(help="Pending, Processing, Complete, Failed or Cancelled")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="only this type")] = None,
    parent: Annotated[str | None, typer.Option(help="only children of this task")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    output: OutputOption = Output.table,
) -> None:
    """List tasks, newest first."""
    tasks = client.list_tasks(
        project_id=project, status=status, task_type=task_type, parent_task_id=parent, limit=limit
    )
    if output is Output.json:
        return _print_json([_as_dict(task) for task in tasks])
    table = Table("task", "type", "status", "done", "created", "what happened", box=None, header_style="bold")
    for task in tasks:
        table.add_row(
            str(task.id),
            task.task_type,
            monitor.styled(task.status),
            f"{task.percent:.0f} %",
            f"{task.created_at:%Y-%m-%d %H:%M:%S}",
            Text(task.error_message or task.output_location or ""),
        )
    return console.print(table)


@app.command()
def show(task_id: Annotated[str, typer.Argument(help="id of a task")], output: OutputOption = Output.table) -> None:
    """Show all of one task."""
    task = client.get_task(task_id)
    if output is Output.json:
        return _print_json(_as_dict(task))
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _as_dict(task).items():
        if value is not None and name not in ("params", "result"):
            table.add_row(name, monitor.styled(value) if name == "status" else Text(str(value)))
    for name in ("result", "params"):
        if value := getattr(task, name):
            table.add_row(name, JSON(json.dumps(value, default=str)))
    return console.print(table)


@app.command()
def cancel(
    task_id: Annotated[str, typer.Argument(help="id of a task")],
    reason: Annotated[str, typer.Option(help="what the task will say")] = "cancelled by its owner",
    output: OutputOption = Output.table,
) -> None:
    """Cancel a task and everything below it."""
    cancelled = client.cancel_task(task_id, reason=reason)
    _print_ids(cancelled, "was cancelled", output)


@app.command()
def retry(task_id: Annotated[str, typer.Argument(help="id of a task")], output: OutputOption = Output.table) -> None:
    """Run a failed or cancelled task again, with what depends on it."""
    _print_ids(client.retry_task(task_id), "will run again", output)


@app.command()
def upload(
    paths: Annotated[list[Path], typer.Argument(help="pictures and clips")],
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Bring pictures and clips, and print the references by which tasks name them."""
    project_id = project or accounts.only_project(authenticate())
    references = [client.upload_media(path, project_id=project_id) for path in paths]
    if output is Output.json:
        return _print_json(references)
    return console.print("\n".join(references), highlight=False, soft_wrap=True)


@types_app.command("list")
def list_types(output: OutputOption = Output.table) -> None:
    """List the task types that people may create."""
    public = [declared for declared in task_types().values() if declared.public]
    if output is Output.json:
        return _print_json([{"name": t.name, "run_type": t.run_type, "description": t.description} for t in public])
    table = Table("type", "pool", "what it makes", box=None, header_style="bold")
    for declared in public:
        table.add_row(declared.name, declared.run_type, declared.description)
    return console.print(table)


@types_app.command("show")
def show_type(
    name: Annotated[str, typer.Argument(help="a name from `unitask types list`")], output: OutputOption = Output.table
) -> None:
    """Show a task type's parameters."""
    declared = get_task_type(name)
    schema = declared.params.model_json_schema()
    if output is Output.json:
        return _print_json(schema)
    table = Table("parameter", "default", "what it is", box=None, header_style="bold")
    for field, definition in schema["properties"].items():
        default = "required" if field in schema.get("required", []) else json.dumps(definition.get("default"))
        table.add_row(field, Text(default), Text(definition.get("description", "")))
    console.print(f"[bold]{declared.display_name}[/]: {declared.description}")
    return console.print(table)


@templates_app.command("save")
def save_template(
    name: Annotated[str, typer.Argument(help="a name that is there already is replaced")],
    task_type: Annotated[str, typer.Argument(help="a name from `unitask types list`")],
    params: Annotated[str | None, typer.Option(help="a JSON file with the parameters; - reads them from stdin")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="name=value; the value is JSON, or else text")] = None,
    project: ProjectOption = None,
) -> None:
    """Store parameters under a name."""
    values = _read_params(params) | {field: _value(text) for field, text in map(_split, set_ or [])}
    project_id = project or accounts.only_project(authenticate())
    saved = templates.create_template(name, task_type, values, project_id=project_id)
    console.print(f"{saved.name} makes {saved.task_type}", highlight=False)


@templates_app.command("list")
def list_templates(project: ProjectOption = None, output: OutputOption = Output.table) -> None:
    """List the templates of a project."""
    found = templates.list_templates(project_id=project or accounts.only_project(authenticate()))
    if output is Output.json:
        return _print_json([dataclasses.asdict(template) for template in found])
    table = Table("template", "type", "parameters", box=None, header_style="bold")
    for template in found:
        table.add_row(template.name, template.task_type, Text(json.dumps(template.params)))
    return console.print(table)


@templates_app.command("delete")
def delete_template(name: Annotated[str, typer.Argument()], project: ProjectOption = None) -> None:
    """Remove a template; tasks that were made from it stay."""
    templates.delete_template(name, project_id=project or accounts.only_project(authenticate()))


@token_app.command("create")
def create_token(
    user: Annotated[str, typer.Argument(help="name of the user; a new name makes a user with a first project")],
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    project: Annotated[str, typer.Option(help="name of the project to make sure of")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="what it may do; repeat for several")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="it expires after so many days")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a token and show it, this once. Needs the database, so it is for operators."""
    user_id = accounts.ensure_user(user)
    project_id = accounts.ensure_project(user_id, project)
    expires_at = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    token = issue_token(user_id, label=label, scopes=scope or DEFAULT_SCOPES, expires_at=expires_at)
    secret = token.secret.get_secret_value()
    if output is Output.json:
        return _print_json({"token": secret, "user_id": user_id, "project_id": project_id})
    console.print(f"export UNITASK_TOKEN={secret}", highlight=False, soft_wrap=True)
    return errors.print(f"It is not stored and cannot be shown again. Project: {project_id}", style="dim")


@token_app.command("list")
def list_user_tokens(
    user: Annotated[str | None, typer.Argument(help="only this user's")] = None, output: OutputOption = Output.table
) -> None:
    """List tokens by their visible prefix. Needs the database, so it is for operators."""
    tokens = list_tokens(accounts.find_user(user) if user is not None else None)
    if output is Output.json:
        return _print_json([dataclasses.asdict(token) for token in tokens])
    table = Table("prefix", "label", "scopes", "created", "expires", "last used", box=None, header_style="bold")
    for token in tokens:
        ends = "revoked" if token.revoked_at else f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "never"
        used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never"
        created = f"{token.created_at:%Y-%m-%d %H:%M}"
        table.add_row(token.prefix, Text(token.label), ", ".join(token.scopes), created, ends, used)
    return console.print(table)


@token_app.command("revoke")
def revoke(
    prefix: Annotated[str, typer.Argument(help="the visible part, from `unitask token list`")],
    output: OutputOption = Output.table,
) -> None:
    """End a token for good. Needs the database, so it is for operators."""
    token = revoke_token(prefix)
    if output is Output.json:
        return _print_json(dataclasses.asdict(token))
    return console.print(f"{token.prefix} is revoked", highlight=False)


def _read_params(source: str | None) -> dict[str, Any]:
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


def _split(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise TaskValidationError(f"`{text}` must be name=value", "params")
    return name, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_dict(task: client.Task) -> dict[str, Any]:
    return {**dataclasses.asdict(task), "output_url": task.output_url}


def _print_json(value: Any, *, compact: bool = False) -> None:
    sys.stdout.write(json.dumps(value, default=str, indent=None if compact else 2) + "\n")
    sys.stdout.flush()


def _print_ids(ids: list[Any], what: str, output: Output) -> None:
    if output is Output.json:
        return _print_json(ids)
    return console.print("\n".join(f"{id_} {what}" for id_ in ids) or f"nothing {what}", highlight=False)


def _print_end(task: client.Task) -> None:
    if task.output_url:
        console.print(f"Output: {task.output_url}", highlight=False, soft_wrap=True)
    if task.error_message:
        console.print(Text(task.error_message, style="red"))
