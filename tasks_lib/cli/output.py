"""How the commands answer."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console()
errors = Console(stderr=True)


class Output(StrEnum):
    """How a command answers."""

    table = "table"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs")]


def print_json(value: Any, *, compact: bool = False) -> None:
    """Print a value as JSON; what JSON does not know (ids, times, amounts) as text."""
    sys.stdout.write(json.dumps(value, default=str, indent=None if compact else 2) + "\n")
    sys.stdout.flush()


def print_ids(ids: list[Any], what: str, output: Output) -> None:
    """Print what happened to each of the ids."""
    if output is Output.json:
        return print_json(ids)
    return console.print("\n".join(f"{id_} {what}" for id_ in ids) or f"nothing {what}", highlight=False)
