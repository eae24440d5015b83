"""A live picture of tasks in the terminal: how far each is, how long it will take, and why it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks_lib import client, results, waiting
from tasks_lib.arguments import Token
from tasks_lib.events import FINAL

T = TypeVar("T")

REDRAW_SECONDS = 0.5
STYLES = {"Pending": "dim", "Processing": "cyan", "Complete": "green", "Failed": "red", "Cancelled": "yellow"}
WIDE = 110
SHOWN_CHILDREN = 200
SHOWN_OF_BATCH = 10


def watch(task_id: UUID | str, console: Console, *, token: Token = None) -> client.Task:
    """Show a task and its children until it has ended, and return its final state."""

    def look() -> tuple[RenderableType, client.Task | None]:
        task = client.get_task(task_id, token=token)
        children = client.list_tasks(parent_task_id=task.id, limit=SHOWN_CHILDREN, token=token)
        return picture([task, *children], console.width), task if task.is_final else None

    return _follow(look, console)


def watch_batch(batch_id: UUID | str, console: Console, *, token: Token = None) -> results.Batch:
    """Show a batch until all of it has ended: one bar for all, and a line for those that run or come next."""
    began = time.monotonic()
    ended_before: int | None = None

    def look() -> tuple[RenderableType, results.Batch | None]:
        nonlocal ended_before
        batch = results.get_batch(batch_id, token=token)
        ended = sum(part.tasks for status, part in batch.by_status.items() if status in FINAL)
        ended_before = ended if ended_before is None else ended_before
        rate = (ended - ended_before) / max(time.monotonic() - began, 0.1)
        left = (batch.tasks - ended) / rate if rate else None
        open_tasks = [
            task
            for status in ("Processing", "Pending")
            for task in (
                client.list_tasks(batch_id=batch.id, status=status, limit=SHOWN_OF_BATCH, token=token)
                if batch.id
                else [client.get_task(batch_id, token=token)]
            )
            if task.status == status
        ][:SHOWN_OF_BATCH]
        table = _table()
        counts = ", ".join(f"{part.tasks} {status}" for status, part in batch.by_status.items())
        _add(table, f"{batch.tasks} tasks", 100 * ended / batch.tasks, Text(counts), _left(left), console.width)
        _add_tasks(table, open_tasks, console.width)
        return table, batch if ended == batch.tasks else None

    return _follow(look, console)


def picture(tasks: Sequence[client.Task], width: int) -> RenderableType:
    """A line for a task and one for each of its children: name, bar, state, time left or the reason of waiting."""
    table = _table()
    _add_tasks(table, tasks, width)
    return table


def styled(status: str) -> Text:
    """A state in its colour."""
    return Text(status, style=STYLES.get(status, ""))


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: `3 min 20 s`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    for size, unit, smaller, below in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def situation(task: client.Task, why: str | None) -> str:
    """What is to be said of a task beside its state: why it waits or failed, or how long it will still take."""
    if task.status == "Pending":
        return why or ""
    if task.status == "Processing":
        tries = f"try {task.attempt}" if task.attempt > 1 else ""
        return ", ".join(filter(None, [_left(task.remaining_seconds), tries, task.message]))
    return task.error_message or ""


def _follow(look: Callable[[], tuple[RenderableType, T | None]], console: Console) -> T:
    if not console.is_terminal:
        # Nothing moves in a file: how it ended is all that is of use there.
        while (found := look())[1] is None:
            time.sleep(REDRAW_SECONDS)
        console.print(found[0])
        return found[1]
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            shown, end = look()
            live.update(shown)
            if end is not None:
                return end
            time.sleep(REDRAW_SECONDS)


def _table() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    for _ in range(5):
        table.add_column(no_wrap=True, overflow="ellipsis")
    return table


def _add_tasks(table: Table, tasks: Sequence[client.Task], width: int) -> None:
    why = waiting.reasons(tasks)
    for task in tasks:
        name = f"  {task.child_key}" if task.child_key else f"{task.task_type} {str(task.id)[:8]}"
        _add(table, name, task.percent, styled(task.status), situation(task, why.get(task.id)), width)


def _add(table: Table, name: str, percent: float, state: Text, said: str, width: int) -> None:
    bar = ProgressBar(total=100, completed=percent, width=40 if width >= WIDE else 10)
    table.add_row(Text(name), bar, f"{percent:3.0f} %", state, Text(" ".join(said.split())))


def _left(seconds: float | None) -> str:
    return f"{duration(seconds)} left" if seconds is not None else ""
