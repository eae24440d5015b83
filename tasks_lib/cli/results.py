"""The commands about what came of tasks."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tasks_lib import monitor, results
from tasks_lib.cli.output import Output, OutputOption, console, print_json

app = typer.Typer()


@app.command()
def tree(task_id: Annotated[str, typer.Argument(help="id of a task")], output: OutputOption = Output.table) -> None:
    """Show a task and everything below it."""
    found = results.get_tree(task_id)
    if output is Output.json:
        return print_json(dataclasses.asdict(found))
    return console.print(_branch(found))


@app.command("batch-cost")
def batch_cost(
    batch_id: Annotated[str, typer.Argument(help="id of a batch, or of any task in it")],
    output: OutputOption = Output.table,
) -> None:
    """Show how many tasks of one call are where, and what they cost."""
    found = results.get_batch(batch_id)
    if output is Output.json:
        return print_json({**dataclasses.asdict(found), "tasks": found.tasks, "cost": found.cost})
    table = Table("status", "tasks", "credits", box=None, header_style="bold")
    for status, part in found.by_status.items():
        table.add_row(monitor.styled(status), str(part.tasks), str(part.cost))
    table.add_row("all", str(found.tasks), str(found.cost))
    return console.print(table)


@app.command()
def history(
    generation_id: Annotated[str, typer.Argument(help="id of a generation, or of a task that made it")],
    output: OutputOption = Output.table,
) -> None:
    """Show how an image or film came about, from what it is based on to its newest variant."""
    steps = results.get_history(generation_id)
    if output is Output.json:
        return print_json([dataclasses.asdict(step) for step in steps])
    table = Table("generation", "variant", "shown", "made by", "prompt", "file", box=None, header_style="bold")
    for step in steps:
        params = step.made.get("params", {})
        table.add_row(
            str(step.generation_id),
            step.variant_type or "none yet",
            "*" if step.is_primary else "",
            step.made.get("task_type", "a person"),
            Text(params.get("prompt") or ""),
            Text(step.location or ""),
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
    return console.print(found, highlight=False, soft_wrap=True)


def _branch(found: results.TaskTree) -> Tree:
    task = found.task
    label = Text.assemble(
        f"{task.task_type} {task.id} ", (task.status, monitor.styled(task.status).style), f" {task.percent:.0f} %"
    )
    branch = Tree(label)
    branch.children.extend(_branch(child) for child in found.children)
    return branch
