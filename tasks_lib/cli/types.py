"""The commands about task types."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tasks_lib.cli.output import Output, OutputOption, console, print_json
from tasks_lib.types.registry import get_task_type, task_types

app = typer.Typer(no_args_is_help=True, help="The task types and their parameters.")


@app.command("list")
def list_types(output: OutputOption = Output.table) -> None:
    """List the task types that people may create."""
    public = [declared for declared in task_types().values() if declared.public]
    if output is Output.json:
        return print_json([{"name": t.name, "run_type": t.run_type, "description": t.description} for t in public])
    table = Table("type", "pool", "what it makes", box=None, header_style="bold")
    for declared in public:
        table.add_row(declared.name, declared.run_type, declared.description)
    return console.print(table)


@app.command("show")
def show_type(
    name: Annotated[str, typer.Argument(help="a name from `unitask types list`")], output: OutputOption = Output.table
) -> None:
    """Show a task type's parameters."""
    declared = get_task_type(name)
    schema = declared.params.model_json_schema()
    if output is Output.json:
        return print_json(schema)
    table = Table("parameter", "default", "what it is", box=None, header_style="bold")
    for field, definition in schema["properties"].items():
        default = "required" if field in schema.get("required", []) else json.dumps(definition.get("default"))
        table.add_row(field, Text(default), Text(definition.get("description", "")))
    console.print(f"[bold]{declared.display_name}[/]: {declared.description}")
    return console.print(table)
