"""The commands about single tasks."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.json import JSON
from rich.text import Text

from tasks_lib import client, creation, monitor, results, waiting
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
    StatusOption,
    TaskArgument,
    TypeArgument,
    TypeOption,
    WatchOption,
    dependency,
    project_or_all,
    project_or_only,
    put_files,
    read_params,
)
from tasks_lib.cli.output import (
    Output,
    OutputOption,
    complain,
    console,
    moment,
    print_ids,
    print_json,
    print_rows,
    say,
    table_of,
)
from tasks_lib.events import FINAL
from tasks_lib.ids import find_batch_id, find_task_id, short_ids
from tasks_lib.watch import watch_task

app = typer.Typer()

NARROW, MIDDLE, WIDE = 72, 100, 140
"""Columns from which a list shows more of each task."""


@app.command()
def create(
    task_type: TypeArgument,
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
    """Create a task.

    For example: unitask create image_upscale --file image_url=photo.png --set scale_factor=2 --watch
    """
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
        state = "is" if created.created else "was there already and is"
        said = f" {state} {created.status}, for {(created.quote or Quote.of(None)).in_words}"
        say(Text.assemble(f"{created.task_type} ", (str(created.task_id), "bold"), said))
    return watch(str(created.task_id), output=output) if wait else None


@app.command()
def watch(
    task_id: TaskArgument,
    after: Annotated[int, typer.Option(help="with JSON: only what came after the event with this id")] = 0,
    output: OutputOption = Output.table,
) -> None:
    """Show a task and its children, or as JSON its events, until it has ended. Exit code 0 only if it is Complete."""
    id_ = find_task_id(task_id)
    if output is Output.json:
        for event in watch_task(id_, after=after):
            print_json(dataclasses.asdict(event), compact=True)
        task = client.get_task(id_)
    else:
        task = monitor.watch(id_, console)
        _print_end(task)
    if task.status != "Complete":
        raise typer.Exit(1)


@app.command("list")
def list_(
    project: ProjectOption = None,
    status: StatusOption = None,
    task_type: TypeOption = None,
    every: Annotated[bool, typer.Option("--all", help="also the children of others")] = False,
    parent: Annotated[
        str | None, typer.Option("--parent", "--children-of", help="only the children of this task", metavar="TASK")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="only what one call created", metavar="TASK")] = None,
    shot: Annotated[str | None, typer.Option(help="only what was asked for in this shot")] = None,
    since: Annotated[datetime | None, typer.Option(help="only what was created at this time or later")] = None,
    until: Annotated[datetime | None, typer.Option(help="only what was created before this time")] = None,
    text: Annotated[str | None, typer.Option(help="only with these words in the parameters")] = None,
    after: Annotated[str | None, typer.Option(help="the next page: the cursor that the last one ended with")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    output: OutputOption = Output.table,
) -> None:
    """List tasks, newest first; those of a batch or parent in their order.

    A narrow terminal shows the beginnings of ids, which every command takes. For example:
    unitask list --status failed --type travel_orchestrator --since 2026-01-31
    """
    tasks = client.list_tasks(
        project_id=project_or_all(project),
        status=status,
        task_type=task_type,
        batch_id=_batch_of(batch),
        parent_task_id=None if parent is None else find_task_id(parent),
        top_level=not every and parent is None,
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
    _print_list(tasks)
    if len(tasks) == limit:
        say(f"more: --after {tasks[-1].cursor}")
    return None


@app.command()
def show(task_id: TaskArgument, output: OutputOption = Output.table) -> None:
    """Show all of one task."""
    task = client.get_task(find_task_id(task_id))
    if output is Output.json:
        return print_json(_as_dict(task))
    table = table_of("", "")
    table.show_header = False
    table.columns[0].style = "bold"
    for name, value in {**_as_dict(task), **_times(task), **waiting_of(task)}.items():
        if value not in (None, []) and name not in ("params", "result", "cursor", "remaining_seconds"):
            shown = moment(value) if isinstance(value, datetime) else "\n".join(value) if name == "notes" else value
            shown = task.quote.in_words if name == "quote" and task.quote else shown
            table.add_row(name, monitor.styled(shown) if name == "status" else Text(str(shown)))
    for name in ("result", "params"):
        if value := getattr(task, name):
            table.add_row(name, JSON(json.dumps(value, default=str)))
    return console.print(table)


@app.command()
def cancel(
    task_id: Annotated[
        str, typer.Argument(help="id of a task; with --batch, of a batch or of any task in it", metavar="TASK")
    ],
    batch: Annotated[bool, typer.Option("--batch", help="everything that was created in the same call")] = False,
    reason: Annotated[str, typer.Option(help="what the task will say")] = "cancelled by its owner",
    output: OutputOption = Output.table,
) -> None:
    """Cancel a task and everything below it, or a whole batch.

    What had ended before is named. Exit code 1 then, unless it was cancelled: nothing is left to cancel.
    """
    id_ = find_batch_id(task_id) if batch else find_task_id(task_id)
    cancelled = (client.cancel_batch if batch else client.cancel_task)(id_, reason=reason)
    if cancelled or output is Output.json:
        print_ids(cancelled, "was cancelled", output)
    if cancelled:
        return
    states = set(results.get_batch(id_).by_status) if batch else {client.get_task(id_).status}
    had = f"{'all of the batch' if batch else f'task {id_}'} had ended as {' and '.join(sorted(states))} before"
    complain(f"{had}; nothing was cancelled")
    if states != {"Cancelled"}:
        raise typer.Exit(1)


@app.command()
def retry(task_id: TaskArgument, output: OutputOption = Output.table) -> None:
    """Run a failed or cancelled task again, with what depends on it."""
    print_ids(client.retry_task(find_task_id(task_id)), "will run again", output)


def waiting_of(task: client.Task) -> dict[str, str]:
    """Why a task waits, as `show` has it."""
    why = waiting.reasons([task]).get(task.id)
    return {"waiting": why} if why else {}


def _batch_of(text: str | None) -> UUID | None:
    """The batch that an id names: its own, or that of a task in it."""
    if text is None:
        return None
    id_ = find_batch_id(text)
    # One that was created alone is in no batch, and so is nothing else.
    return results.get_batch(id_).id or id_


def shown_ids(tasks: list[client.Task]) -> dict[UUID, str]:
    """What a list shows of the ids of tasks: all, or in a narrow terminal what names them."""
    ids = [task.id for task in tasks]
    return short_ids(ids) if console.width < WIDE else {id_: str(id_) for id_ in ids}


def _print_list(tasks: list[client.Task]) -> None:
    width, ids = console.width, shown_ids(tasks)
    why = waiting.reasons(tasks)
    heads = ["task", "type", "status"]
    heads += ["created"] if width >= NARROW else []
    heads += ["done", "took"] if width >= MIDDLE else []
    rows = []
    for task in tasks:
        created = moment(task.created_at)
        cells = [ids[task.id], task.task_type, task.status, created if width >= WIDE else created[5:16]]
        cells += [f"{task.percent:.0f} %", monitor.duration(_took(task))]
        said = monitor.situation(task, why.get(task.id)) or task.output_location or ""
        rows.append([*cells[: len(heads)], " ".join(said.split())])
    print_rows([*heads, "what happened"], rows, styles={2: monitor.STYLES})


def _took(task: client.Task) -> float | None:
    """Seconds from the first claim of a task to its end, or to now."""
    if task.started_at is None or task.status == "Pending":
        return None
    end = task.finished_at if task.status in FINAL else datetime.now(UTC)
    return (end - task.started_at).total_seconds() if end else None


def _times(task: client.Task) -> dict[str, str]:
    took, left = _took(task), task.remaining_seconds
    told = {"took": took if task.is_final else None, "runs for": None if task.is_final else took, "left": left}
    return {name: monitor.duration(seconds) for name, seconds in told.items() if seconds is not None}


def _print_quote(quote: Quote, output: Output) -> None:
    if output is Output.json:
        return print_json(dataclasses.asdict(quote))
    return say(quote.in_words)


def _as_dict(task: client.Task) -> dict[str, Any]:
    return {**dataclasses.asdict(task), "output_url": task.output_url, "cursor": task.cursor, "notes": task.notes}


def _print_end(task: client.Task) -> None:
    if task.output_url:
        say(f"Output: {task.output_url}")
    for note in task.notes:
        say(f"Note: {note}")
    if task.error_message:
        complain(task.error_message)
