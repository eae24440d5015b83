"""The command about what has failed for good."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tasks_lib import client
from tasks_lib.cli.inputs import ProjectOption
from tasks_lib.cli.output import Output, OutputOption, console, print_json

app = typer.Typer()


@app.command()
def dead(
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    output: OutputOption = Output.table,
) -> None:
    """List the tasks that failed for good by themselves, newest first; `unitask retry` brings one back."""
    tasks = client.list_dead_letters(project_id=project, limit=limit)
    if output is Output.json:
        return print_json([dataclasses.asdict(task) for task in tasks])
    table = Table("task", "type", "attempts", "failed", "kind", "why", box=None, header_style="bold")
    for task in tasks:
        table.add_row(
            str(task.id),
            task.task_type,
            f"{task.attempt} of {task.max_attempts}",
            f"{task.finished_at:%Y-%m-%d %H:%M:%S}",
            task.error_kind,
            Text(task.error_message or ""),
        )
    return console.print(table)
