"""The commands about many tasks, and about what they are made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tasks_lib import batches, client, monitor, templates
from tasks_lib.cli.inputs import ProjectOption, TypeOption, WatchOption, project_or_only
from tasks_lib.cli.output import Output, OutputOption, complain, console, errors, print_json, say
from tasks_lib.errors import TaskValidationError

app = typer.Typer()


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(help="a .jsonl or .csv file: a row of parameters for each task")],
    task_type: TypeOption = None,
    template: Annotated[
        str | None, typer.Option(help="a name from `unitask templates list`, instead of a type")
    ] = None,
    project: ProjectOption = None,
    wait: WatchOption = False,
    key: Annotated[str | None, typer.Option(help="idempotency key: each row's own is made from it")] = None,
    skip_refused: Annotated[bool, typer.Option(help="create what is valid; else it is all or none")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Create a task for every row of a file, in one transaction.

    For example: unitask batch prompts.csv --type image_upscale --watch. With --watch, the exit code is 0 only if all
    are Complete.
    """
    project_id = project_or_only(project)
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
        print_json(dataclasses.asdict(report))
    else:
        for refusal in report.refused:
            complain(f"row {refusal.index}: {refusal.message}")
        say(f"{len(report.created)} created, {len(report.already_there)} already there")
    if wait and (made := report.created or report.already_there):
        # Beside the output of programs.
        ended = monitor.watch_batch(made[0], errors if output is Output.json else console)
        if set(ended.by_status) != {"Complete"}:
            raise typer.Exit(1)


@app.command()
def upload(
    paths: Annotated[list[Path], typer.Argument(help="pictures and clips")],
    project: ProjectOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Bring pictures and clips, and print the references by which tasks name them."""
    project_id = project_or_only(project)
    references = [client.upload_media(path, project_id=project_id) for path in paths]
    if output is Output.json:
        return print_json(references)
    return say("\n".join(references))
