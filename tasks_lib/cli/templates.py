"""The commands about templates."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from tasks_lib import templates
from tasks_lib.cli.inputs import (
    DependsOnOption,
    FileOption,
    KeyOption,
    ParamsOption,
    PriorityOption,
    ProjectOption,
    QuoteOption,
    SetOption,
    TypeArgument,
    WatchOption,
    project_or_only,
    read_params,
)
from tasks_lib.cli.output import Output, OutputOption, console, print_json, say, table_of
from tasks_lib.cli.tasks import make

app = typer.Typer(no_args_is_help=True, help="Named parameter sets of a project.")


@app.command("save")
def save_template(
    name: Annotated[str, typer.Argument(help="a name that is there already is replaced")],
    task_type: TypeArgument,
    params: ParamsOption = None,
    set_: SetOption = None,
    open_: Annotated[
        list[str] | None, typer.Option("--open", help="a required parameter that every use gives; may be repeated")
    ] = None,
    project: ProjectOption = None,
) -> None:
    """Store parameters under a name."""
    values = read_params(params, set_)
    project_id = project_or_only(project)
    saved = templates.create_template(name, task_type, values, project_id=project_id, open_fields=open_ or [])
    left = f"; every use gives {', '.join(saved.open_fields)}" if saved.open_fields else ""
    say(f"{saved.name} makes {saved.task_type}{left}")


@app.command("list")
def list_templates(project: ProjectOption = None, output: OutputOption = Output.table) -> None:
    """List the templates of a project."""
    found = templates.list_templates(project_id=project_or_only(project))
    if output is Output.json:
        return print_json([{**dataclasses.asdict(each), "open_fields": each.open_fields} for each in found])
    table = table_of("template", "type", "open", "parameters")
    for template in found:
        left = ", ".join(template.open_fields)
        table.add_row(template.name, template.task_type, left, json.dumps(template.params))
    return console.print(table)


@app.command("use")
def use_template(
    name: Annotated[str, typer.Argument(help="a name from `unitask templates list`")],
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
    """Create a task with a template's parameters and, in their place, what is given here."""
    project_id = project_or_only(project)
    template = templates.get_template(name, project_id=project_id)
    values = template.with_overrides(read_params(params, set_))
    make(template.task_type, values, file, project_id, key, priority, depends_on, wait, quote, output)


@app.command("delete")
def delete_template(name: Annotated[str, typer.Argument()], project: ProjectOption = None) -> None:
    """Remove a template; tasks that were made from it stay."""
    templates.delete_template(name, project_id=project_or_only(project))
