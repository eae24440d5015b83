"""The commands about what came of tasks."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from tasks_lib import monitor, results
from tasks_lib.cli.inputs import TaskArgument
from tasks_lib.cli.output import Output, OutputOption, console, print_json, say, table_of
from tasks_lib.ids import find_batch_id, find_generation_id, find_task_id

app = typer.Typer()


@app.command()
def tree(task_id: TaskArgument, output: OutputOption = Output.table) -> None:
    """Show a task and everything below it."""
    found = results.get_tree(find_task_id(task_id))
    if output is Output.json:
        return print_json(dataclasses.asdict(found))
    return console.print(_branch(found))


@app.command("batch-cost")
def batch_cost(
    batch_id: Annotated[str, typer.Argument(help="id of a batch, or of any task in it", metavar="TASK")],
    output: OutputOption = Output.table,
) -> None:
    """Show how many tasks of one call are where, and what they cost."""
    found = results.get_batch(find_batch_id(batch_id))
    if output is Output.json:
        return print_json({**dataclasses.asdict(found), "tasks": found.tasks, "cost": found.cost})
    table = table_of("status", "tasks", "credits")
    for status, part in found.by_status.items():
        table.add_row(monitor.styled(status), str(part.tasks), str(part.cost))
    table.add_row("all", str(found.tasks), str(found.cost))
    return console.print(table)


@app.command()
def history(
    generation_id: Annotated[str, typer.Argument(help="id of a generation, or of a task that made it", metavar="TASK")],
    output: OutputOption = Output.table,
) -> None:
    """Show how an image or film came about, from what it is based on to its newest variant."""
    steps = results.get_history(find_generation_id(generation_id))
    if output is Output.json:
        return print_json([dataclasses.asdict(step) for step in steps])
    table = table_of("generation", "variant", "shown", "made by", "prompt", "file")
    for step in steps:
        params = step.made.get("params", {})
        table.add_row(
            str(step.generation_id),
            step.variant_type or "none yet",
            "*" if step.is_primary else "",
            step.made.get("task_type", "a person"),
            str(params.get("prompt") or ""),
            step.location or "",
        )
    return console.print(table)


@app.command()
def url(
    location: Annotated[str, typer.Argument(help="an output location, or a reference of an upload")],
    seconds: Annotated[float | None, typer.Option(min=1, help="how long a signed URL is good for")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Print where a browser finds a stored file."""
    found = results.media_url(location, seconds=seconds)
    if output is Output.json:
        return print_json(found)
    return say(found)


def _branch(found: results.TaskTree) -> Tree:
    task = found.task
    label = Text.assemble(
        f"{task.task_type} {task.id} ", (task.status, monitor.styled(task.status).style), f" {task.percent:.0f} %"
    )
    branch = Tree(label)
    branch.children.extend(_branch(child) for child in found.children)
    return branch
