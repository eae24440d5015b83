"""The command that deletes what is over its age."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from tasks_lib import retention
from tasks_lib.cli.output import Output, OutputOption, print_json, say

app = typer.Typer()


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
    deleted_projects: Annotated[
        bool,
        typer.Option(help="also files of projects that this database does not know; no other may share the storage"),
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Delete finished tasks, events and unused files that are over their age (for operators)."""
    pruned = retention.prune(dry_run=dry_run, deleted_projects=deleted_projects)
    if output is Output.json:
        return print_json(dataclasses.asdict(pruned))
    verb = "would be deleted" if dry_run else "deleted"
    counts = f"{pruned.tasks} tasks, {pruned.events} events, {pruned.files} files ({pruned.bytes / 1e6:.1f} MB)"
    return say(f"{counts} {verb}")
