"""The command `unitask`: people get tables and live bars, programs `--output json`."""

from tasks_lib.cli.command import app, main
from tasks_lib.cli.output import Output, OutputOption

__all__ = ["Output", "OutputOption", "app", "main"]
