"""The command about what has failed for good."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from tasks_lib import client
from tasks_lib.cli.inputs import ProjectOption, project_or_all
from tasks_lib.cli.output import Output, OutputOption, moment, print_json, print_rows
from tasks_lib.cli.tasks import shown_ids

app = typer.Typer()


@app.command()
def dead(
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    output: OutputOption = Output.table,
) -> None:
    """List the tasks that failed for good by themselves, newest first; `unitask retry` brings one back."""
    tasks = client.list_dead_letters(project_id=project_or_all(project), limit=limit)
    if output is Output.json:
        return print_json([dataclasses.asdict(task) for task in tasks])
    ids = shown_ids(tasks)
    rows = [
        [
            ids[task.id],
            task.task_type,
            f"{task.attempt} of {task.max_attempts}",
            moment(task.finished_at),
            task.error_kind or "",
            " ".join((task.error_message or "").split()),
        ]
        for task in tasks
    ]
    return print_rows(["task", "type", "attempts", "failed", "kind", "why"], rows)
