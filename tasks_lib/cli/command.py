"""The whole command, put together from its parts."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from tasks_lib.cli import (
    batches,
    credits,
    dead,
    models,
    projects,
    providers,
    results,
    retention,
    tasks,
    templates,
    tokens,
    types,
)
from tasks_lib.cli.output import complain, say
from tasks_lib.errors import TaskError
from tasks_lib.masking import mask_logs

EXIT_CODES = (
    "Exit codes: 0 it is as was asked for; 1 it is not, and a line on stderr says why; 2 the command was called "
    "wrongly; 70 a fault of this program's own, whose traceback UNITASK_DEBUG=1 shows; 130 interrupted."
)
FAULT = 70
SHOWN_REFUSALS = 20

app = typer.Typer(
    no_args_is_help=True,
    help="Media work: people get tables and live bars, programs `--output json`.\n\n"
    "Wherever the id of a task is asked for, its beginning is enough, if no other task of yours begins so.",
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (tasks.app, batches.app, dead.app, models.app, providers.app, results.app, retention.app):
    app.add_typer(part)
app.add_typer(types.app, name="types")
app.add_typer(projects.project_app, name="project")
app.add_typer(projects.shot_app, name="shot")
app.add_typer(templates.app, name="templates")
app.add_typer(tokens.app, name="token")
app.add_typer(credits.app, name="credits")


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"unitask {importlib.metadata.version('unitask')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="show the version, and end")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def told(error: TaskError) -> str:
    """An error for people: of a batch, a line for each refused row."""
    if len(error.refusals) < 2:
        return str(error)
    lines = [f"row {refusal.index}: {refusal.message}" for refusal in error.refusals[:SHOWN_REFUSALS]]
    if (left := len(error.refusals) - SHOWN_REFUSALS) > 0:
        lines.append(f"and {left} more")
    return "\n".join([*lines, "nothing was stored"])


def main() -> None:
    """Run the command line; what goes wrong ends in one line, and a status of its own (`EXIT_CODES`)."""
    mask_logs()
    for point in importlib.metadata.entry_points(group="unitask.commands"):
        app.add_typer(point.load())
    try:
        app(prog_name="unitask")
    except TaskError as error:
        complain(told(error))
    except (OSError, TimeoutError) as error:
        complain(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("UNITASK_DEBUG"):
            raise
        complain(f"a fault of this program's own: {type(error).__name__}: {' '.join(str(error).split())}")
        sys.exit(FAULT)
    sys.exit(1)
