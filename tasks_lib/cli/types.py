"""The commands about task types."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tasks_lib.availability import facts_of, list_task_types
from tasks_lib.cli.output import Output, OutputOption, console, print_json, say, table_of
from tasks_lib.types.table import find_type

app = typer.Typer(help="The task types and their parameters.")


@app.callback(invoke_without_command=True)
def types(context: typer.Context, output: OutputOption = Output.table) -> None:
    """List the task types, where no other command is given."""
    if context.invoked_subcommand is None:
        list_types(output)


@app.command("list")
def list_types(output: OutputOption = Output.table) -> None:
    """List the task types that people may create, and whether they work here or what they need."""
    found = list_task_types()
    if output is Output.json:
        return print_json([dataclasses.asdict(each) for each in found])
    table = table_of("type", "pool", "what it makes", "works here")
    for each in found:
        table.add_row(each.name, each.run_type, each.description, each.works_here)
    console.print(table)
    if any(each.needs for each in found):
        say("`unitask types show TYPE` says how a type gets what it needs")
    return None


@app.command("show")
def show_type(
    name: Annotated[str, typer.Argument(help="a name from `unitask types list`")], output: OutputOption = Output.table
) -> None:
    """Show a task type's parameters."""
    declared = find_type(name)
    schema = declared.params.model_json_schema()
    if output is Output.json:
        return print_json(schema)
    facts = facts_of(declared)
    say(Text.assemble((facts.display_name, "bold"), f": {facts.description}"))
    say(f"It runs on the pool {facts.run_type}. It costs {facts.price}.")
    if facts.own:
        say(f"Its owner has set {', '.join(facts.own)} in `task_types`.")
    if facts.needs:
        say(f"To work here it needs {facts.needs}")
    console.print(_fields("parameter", schema))
    for name, definition in schema.get("$defs", {}).items():
        say(Text.assemble("\n", (name, "bold"), f": {_words(definition)}"))
        console.print(_fields("key", definition))
    return None


def _fields(head: str, schema: Mapping[str, Any]) -> Table:
    """The fields of a JSON schema, the required ones first."""
    shown = table_of(head, "value", "default", "what it is")
    fields = schema.get("properties", {})
    for name in sorted(fields, key=lambda name: int(fields[name].get("position", 0))):
        default = "required" if name in schema.get("required", []) else json.dumps(fields[name].get("default"))
        shown.add_row(name, Text(_kind(fields[name])), Text(default), Text(_words(fields[name])))
    return shown


def _words(definition: Mapping[str, Any]) -> str:
    return " ".join(definition.get("description", "").split())


def _kind(definition: Mapping[str, Any]) -> str:
    """What a JSON schema takes, in a few words: `integer, 1 to 200`."""
    if forms := [form for form in definition.get("anyOf", ()) if form.get("type") != "null"]:
        return " or ".join(dict.fromkeys(map(_kind, forms)))
    if "enum" in definition or "const" in definition:
        return ", ".join(map(json.dumps, definition.get("enum", [definition.get("const")])))
    if "$ref" in definition:
        return str(definition["$ref"]).rpartition("/")[2]
    if definition.get("type") == "array":
        return f"list of {_kind(definition.get('items', {}))}"
    low, high = (
        definition.get(f"{bound}imum", definition.get(f"exclusive{bound.capitalize()}imum")) for bound in ("min", "max")
    )
    bounds = {(True, True): f", {low} to {high}", (True, False): f", from {low}", (False, True): f", up to {high}"}
    kind = str(definition.get("format", definition.get("type", "any")))
    return kind + bounds.get((low is not None, high is not None), "")
