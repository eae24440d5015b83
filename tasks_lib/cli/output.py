"""How the commands answer. All that people see goes through `console` and `errors`, which let no control character of
foreign text through to the terminal; programs get JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

WHOLE_LINES = 10_000
"""The width of what is no terminal, such as a pipe: no line is broken or cut there."""

# C0 without line ends, which rich has handled by then, and C1: commands to the terminal. The marks of direction let
# text show as another than it is. Halves of surrogate pairs, as of file names in no encoding, cannot be written.
_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class SafeConsole(Console):
    """A console for text of anybody: no markup in it counts, and no control character leaves it."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, without the control characters of the text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_CONTROL.sub("", segment.text), segment.style)

    @property
    def size(self) -> ConsoleDimensions:
        """The size of the terminal, or COLUMNS; a pipe is as wide as what is printed."""
        found = super().size
        narrow = self.is_terminal or self._width is not None or "COLUMNS" in self._environ
        return found if narrow else ConsoleDimensions(WHOLE_LINES, found.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size


console = SafeConsole()
errors = SafeConsole(stderr=True)


class Output(StrEnum):
    """How a command answers."""

    table = "table"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs")]


def print_json(value: Any, *, compact: bool = False) -> None:
    """Print a value as JSON: times as RFC 3339 with their offset, ids and amounts as text."""
    sys.stdout.write(json.dumps(value, default=_as_json, indent=None if compact else 2) + "\n")
    sys.stdout.flush()


def print_ids(ids: list[Any], what: str, output: Output) -> None:
    """Print what happened to each of the ids."""
    if output is Output.json:
        return print_json(ids)
    return say("\n".join(f"{id_} {what}" for id_ in ids) or f"nothing {what}")


def say(text: str | Text) -> None:
    """Print a text whose lines are broken by nobody, so that ids and addresses can be copied."""
    console.print(text, soft_wrap=True)


def complain(text: str) -> None:
    """Print what went wrong, beside the output."""
    errors.print(Text(text, style="red"), soft_wrap=True)


def table_of(*heads: str) -> Table:
    """A table without lines, whose cells are broken where the terminal ends."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def print_rows(heads: list[str], rows: list[list[str]], styles: Mapping[int, Mapping[str, str]] = {}) -> None:
    """Print a table with one line for each row: where the terminal ends, the last cell is cut and no other.

    `styles` has the style of each value of a column.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    left = console.width
    for place, head in enumerate(heads):
        width = min(max(cell_len(row[place]) for row in [heads, *rows]), left)
        left = max(left - width - 2, 0)
        table.add_column(head, no_wrap=True, overflow="ellipsis", width=width)
    for row in rows:
        table.add_row(*(Text(cell, styles.get(place, {}).get(cell, "")) for place, cell in enumerate(row)))
    console.print(table)


def moment(time: datetime | None) -> str:
    """A time on this machine's clock, for people."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}" if time else ""


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else str(value)
