"""The commands about single tasks."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.json import JSON
from rich.table import Table
from rich.text import Text

from tasks_lib import client, creation, monitor
from tasks_lib.billing.cost import Quote
from tasks_lib.cli.inputs import (
    DependsOnOption,
    FileOption,
    KeyOption,
    ParamsOption,
    PriorityOption,
    ProjectOption,
    QuoteOption,
    SetOption,
    WatchOption,
    dependency,
    project_or_only,
    put_files,
    read_params,
)
from tasks_lib.cli.output import Output, OutputOption, console, print_ids, print_json
from tasks_lib.watch import watch_task

app = typer.Typer()


@app.command()
def create(
    task_type: Annotated[str, typer.Argument(help="a name from `unitask types list`")],
    params: ParamsOption = None,
    set_: SetOption = None,
    file: FileOption = None,
    project: ProjectOption = None,
    key: KeyOption = None,
    priority: PriorityOption = 0,
    depends_on: DependsOnOption = None,
    wait: WatchOption = False,
    quote: QuoteOption = False,
    output: OutputOption = Output.table,
) -> None:
    """Create a task."""
    make(
        task_type,
        read_params(params, set_),
        file,
        project_or_only(project),
        key,
        priority,
        depends_on,
        wait,
        quote,
        output,
    )


def make(
    task_type: str,
    given: dict[str, Any],
    file: list[str] | None,
    project_id: str,
    key: str | None,
    priority: int,
    depends_on: list[str] | None,
    wait: bool,
    quote: bool,
    output: Output,
) -> None:
    """Create a task of parameters and files, or say what it would cost; show it, and watch it if that is wanted."""
    values = put_files(given, file, task_type, project_id)
    if quote:
        return _print_quote(creation.quote(task_type, values, project_id=project_id), output)
    edges = list(map(dependency, depends_on or []))
    created = creation.create_task(
        task_type, values, project_id=project_id, idempotency_key=key, priority=priority, depends_on=edges
    )
    if output is Output.json:
        print_json(dataclasses.asdict(created))
    else:
        console.print(
            f"{created.task_type} [bold]{created.task_id}[/] {'is' if created.created else 'was there already and is'} "
            f"{created.status}, for {created.quote} credits",
            highlight=False,
        )
    return watch(str(created.task_id), output=output) if wait else None


@app.command()
def watch(
    task_id: Annotated[str, typer.Argument(help="id of a task")],
    after: Annotated[int, typer.Option(help="with JSON: only what came after the event with this id")] = 0,
    output: OutputOption = Output.table,
) -> None:
    """Show a task and its children, or as JSON its events, until it has ended; the status is 0 only if Complete."""
    if output is Output.json:
        for event in watch_task(task_id, after=after):
            print_json(dataclasses.asdict(event), compact=True)
        task = client.get_task(task_id)
    else:
        task = monitor.watch(task_id, console)
        _print_end(task)
    if task.status != "Complete":
        raise typer.Exit(1)


@app.command("list")
def list_(
    project: ProjectOption = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Pending, Processing, Complete, Failed or Cancelled; may be repeated")
    ] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="only this type")] = None,
    batch: Annotated[str | None, typer.Option(help="only what one call created")] = None,
    parent: Annotated[str | None, typer.Option(help="only children of this task")] = None,
    shot: Annotated[str | None, typer.Option(help="only what was asked for in this shot")] = None,
    since: Annotated[datetime | None, typer.Option(help="only what was created at this time or later")] = None,
    until: Annotated[datetime | None, typer.Option(help="only what was created before this time")] = None,
    text: Annotated[str | None, typer.Option(help="only with these words in the parameters")] = None,
    after: Annotated[str | None, typer.Option(help="the next page: the cursor that the last one ended with")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    output: OutputOption = Output.table,
) -> None:
    """List tasks, newest first; those of a batch or parent in their order."""
    tasks = client.list_tasks(
        project_id=project,
        status=status,
        task_type=task_type,
        batch_id=batch,
        parent_task_id=parent,
        shot_id=shot,
        # A time without a zone is this machine's.
        created_after=since and since.astimezone(),
        created_before=until and until.astimezone(),
        text=text,
        after=after,
        limit=limit,
    )
    if output is Output.json:
        return print_json([_as_dict(task) for task in tasks])
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
    console.print(table)
    if len(tasks) == limit:
        console.print(f"more: --after {tasks[-1].cursor}", highlight=False, soft_wrap=True)
    return None


@app.command()
def show(task_id: Annotated[str, typer.Argument(help="id of a task")], output: OutputOption = Output.table) -> None:
    """Show all of one task."""
    task = client.get_task(task_id)
    if output is Output.json:
        return print_json(_as_dict(task))
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
    task_id: Annotated[str, typer.Argument(help="id of a task; with --batch, of a batch or of any task in it")],
    batch: Annotated[bool, typer.Option("--batch", help="everything that was created in the same call")] = False,
    reason: Annotated[str, typer.Option(help="what the task will say")] = "cancelled by its owner",
    output: OutputOption = Output.table,
) -> None:
    """Cancel a task and everything below it, or a whole batch."""
    cancelled = (client.cancel_batch if batch else client.cancel_task)(task_id, reason=reason)
    print_ids(cancelled, "was cancelled", output)


@app.command()
def retry(task_id: Annotated[str, typer.Argument(help="id of a task")], output: OutputOption = Output.table) -> None:
    """Run a failed or cancelled task again, with what depends on it."""
    print_ids(client.retry_task(task_id), "will run again", output)


def _print_quote(quote: Quote, output: Output) -> None:
    if output is Output.json:
        return print_json(dataclasses.asdict(quote))
    return console.print(f"{quote} credits", highlight=False)


def _as_dict(task: client.Task) -> dict[str, Any]:
    return {**dataclasses.asdict(task), "output_url": task.output_url, "cursor": task.cursor}


def _print_end(task: client.Task) -> None:
    if task.output_url:
        console.print(f"Output: {task.output_url}", highlight=False, soft_wrap=True)
    if task.error_message:
        console.print(Text(task.error_message, style="red"))
