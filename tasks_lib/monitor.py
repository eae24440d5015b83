"""A live picture of a task and its children in the terminal."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks_lib import client
from tasks_lib.arguments import Token

REDRAW_SECONDS = 0.5
STYLES = {"Pending": "dim", "Processing": "cyan", "Complete": "green", "Failed": "red", "Cancelled": "yellow"}


def watch(task_id: str, console: Console, *, token: Token = None) -> client.Task:
    """Show a task until it has ended, and return its final state."""
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            task = client.get_task(task_id, token=token)
            live.update(picture(task, client.list_tasks(parent_task_id=task.id, limit=200, token=token)))
            if task.is_final:
                return task
            time.sleep(REDRAW_SECONDS)


def picture(task: client.Task, children: list[client.Task]) -> RenderableType:
    """A line for the task and one for each child: name, bar, state."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    for row in [task, *children]:
        name = row.task_type if row is task else f"  {row.child_key}"
        table.add_row(
            Text(name, style="bold" if row is task else ""),
            ProgressBar(total=100, completed=row.percent, width=40),
            f"{row.percent:3.0f} %",
            styled(row.status),
            Text(f"try {row.attempt}" if row.attempt > 1 else ""),
        )
    return Group(table)


def styled(status: str) -> Text:
    """A state in its colour."""
    return Text(status, style=STYLES.get(status, ""))
