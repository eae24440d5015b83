"""The whole command, put together from its parts."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer
from rich.text import Text

from tasks_lib.cli import batches, credits, dead, models, providers, results, retention, tasks, templates, tokens, types
from tasks_lib.cli.output import errors
from tasks_lib.errors import TaskError
from tasks_lib.masking import mask_logs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Media work: people get tables and live bars, programs `--output json`.",
    pretty_exceptions_enable=False,
)
for part in (tasks.app, batches.app, dead.app, models.app, providers.app, results.app, retention.app):
    app.add_typer(part)
app.add_typer(types.app, name="types")
app.add_typer(templates.app, name="templates")
app.add_typer(tokens.app, name="token")
app.add_typer(credits.app, name="credits")


SHOWN_REFUSALS = 20


def told(error: TaskError) -> str:
    """An error for people: of a batch, a line for each refused row."""
    if len(error.refusals) < 2:
        return str(error)
    lines = [f"row {refusal.index}: {refusal.message}" for refusal in error.refusals[:SHOWN_REFUSALS]]
    if (left := len(error.refusals) - SHOWN_REFUSALS) > 0:
        lines.append(f"and {left} more")
    return "\n".join([*lines, "nothing was stored"])


def main() -> None:
    """Run the command line; a mistake of the user's ends in one line, and a status of 1."""
    mask_logs()
    for point in entry_points(group="unitask.commands"):
        app.add_typer(point.load())
    try:
        app()
    except TaskError as error:
        errors.print(Text(told(error), style="red"))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
