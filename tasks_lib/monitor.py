"""A live picture of tasks in the terminal: how far each is, how long it will take, and why it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar
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
        counts = ", ".join(f"{part.tasks} {status}" for status, part in batch.by_status.items())
        lines = [_Line(f"{batch.tasks} tasks", 100 * ended / batch.tasks, "", f"{counts} {_left(left)}".strip())]
        lines += _lines(_open_tasks(batch_id, batch, token))
        return _drawn(lines, console.width), batch if ended == batch.tasks else None

    return _follow(look, console)


def picture(tasks: Sequence[client.Task], width: int) -> RenderableType:
    """A line for a task and one for each of its children: name, bar, state, time left or the reason of waiting."""
    return _drawn(_lines(tasks), width)


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


class _Line(NamedTuple):
    name: str
    percent: float
    status: str
    said: str


def _open_tasks(id_: UUID | str, batch: results.Batch, token: Token) -> list[client.Task]:
    """What runs of a batch and what comes next, as far as there is room for it."""
    if batch.id is None:
        return [client.get_task(id_, token=token)]
    running, waiting_ = (
        client.list_tasks(batch_id=batch.id, status=status, limit=SHOWN_OF_BATCH, token=token)
        for status in ("Processing", "Pending")
    )
    return [*running, *waiting_][:SHOWN_OF_BATCH]


def _lines(tasks: Sequence[client.Task]) -> list[_Line]:
    why = waiting.reasons(tasks)
    return [
        _Line(
            f"  {task.child_key}" if task.child_key else f"{task.task_type} {str(task.id)[:8]}",
            task.percent,
            task.status,
            " ".join(situation(task, why.get(task.id)).split()),
        )
        for task in tasks
    ]


def _drawn(lines: Sequence[_Line], width: int) -> Table:
    """A row for each line; where the terminal ends, what is said is cut and nothing else."""
    table = Table(box=None, show_header=False, pad_edge=False)
    name, bar, state = max(len(line.name) for line in lines), 40 if width >= WIDE else 10, max(map(len, STYLES))
    gaps = 4 * 2
    for size in (name, bar, 5, state, max(width - name - bar - 5 - state - gaps, 1)):
        table.add_column(no_wrap=True, overflow="ellipsis", width=size)
    for line in lines:
        progress = ProgressBar(total=100, completed=line.percent, width=bar)
        table.add_row(Text(line.name), progress, f"{line.percent:3.0f} %", styled(line.status), Text(line.said))
    return table


def _left(seconds: float | None) -> str:
    return f"{duration(seconds)} left" if seconds is not None else ""
