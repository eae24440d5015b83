"""What is deleted, and when: finished tasks, their events, and files that belong to nothing.

Each is a chain of small steps, so that work goes on beside it. A file is needed while its task may still run, by the
lease that completed the task, and by every generation that shows it; how long all else is kept stands in the settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa

from db import tables
from tasks_lib import database, storage
from tasks_lib.settings import get_settings
from tasks_lib.storage import StoredFile

STEP = 200
EVENT_STEP = 5_000


@dataclass(frozen=True)
class Pruned:
    """What was deleted, or would be."""

    tasks: int
    events: int
    files: int
    bytes: int


def prune(*, dry_run: bool = False, deleted_projects: bool = False) -> Pruned:
    """Delete what is over its age. With `dry_run`, only count.

    `deleted_projects` also takes the folders of projects that this database does not know: only right where no other
    database shares the storage.
    """
    settings = get_settings()
    task_age, event_age = timedelta(days=settings.task_days), timedelta(days=settings.event_days)
    if dry_run:
        tasks, events = _due(task_age, event_age)
    else:
        tasks = _in_steps("prune_tasks", task_age, STEP)
        events = _in_steps("prune_events", event_age, EVENT_STEP)
    orphans = list(_orphans(timedelta(seconds=settings.orphan_seconds), deleted_projects))
    if not dry_run:
        for file in orphans:
            storage.remove(file.key)
    return Pruned(tasks, events, len(orphans), sum(file.bytes for file in orphans))


def _in_steps(function: str, age: timedelta, step: int) -> int:
    """Each step is a transaction of its own; nothing is done for an age of 0."""
    total = 0
    while age and (done := int(database.scalar(function, p_age=age, p_limit=step))):
        total += done
    return total


def _due(task_age: timedelta, event_age: timedelta) -> tuple[int, int]:
    tasks = "SELECT cardinality(unitask.tree_of(ARRAY(SELECT unitask.prunable_tasks(:age, NULL))))"
    events = "SELECT count(*) FROM task_events WHERE created_at < now() - CAST(:age AS interval)"
    with database.transaction() as connection:
        return (
            int(connection.scalar(sa.text(tasks), {"age": task_age}) or 0) if task_age else 0,
            int(connection.scalar(sa.text(events), {"age": event_age}) or 0) if event_age else 0,
        )


def _orphans(age: timedelta, deleted_projects: bool) -> Iterator[StoredFile]:
    """Files that belong to nothing and are old enough: a worker may store what its task names only afterwards."""
    folders = storage.project_folders()
    with database.transaction() as connection:
        known = {str(id_) for id_ in connection.scalars(sa.select(tables.projects.c.id))}
    for project in folders:
        if project not in known and not deleted_projects:
            continue
        # The files first: one that comes after the rows were read is not looked at.
        files = storage.task_files(project)
        needed = _Needed(project, {file.task for file in files})
        for file in files:
            if not needed(file):
                written = storage.age(file.key)
                if written is not None and written > age:
                    yield file


class _Needed:
    """Whether a file of a project is needed by a task or a generation."""

    def __init__(self, project: str, task_ids: set[str]) -> None:
        t, g, v = tables.tasks, tables.generations, tables.generation_variants
        with database.transaction() as connection:
            self._tasks: dict[str, Any] = {
                str(row.id): row
                for row in connection.execute(sa.select(t.c.id, t.c.status, t.c.lease_id).where(t.c.id.in_(task_ids)))
            }
            shown = connection.scalars(
                sa.select(v.c.location).join(g, g.c.id == v.c.generation_id).where(g.c.project_id == project)
            )
            # With what lies beside it: a contact sheet, a preview.
            self._folders = {str(PurePosixPath(location).parent) for location in shown}

    def __call__(self, file: StoredFile) -> bool:
        task = self._tasks.get(file.task)
        if task is not None and task.status in ("Pending", "Processing"):
            return True
        won = task is not None and task.status == "Complete" and file.lease == str(task.lease_id)
        finished = not file.key.endswith(".part")
        return finished and (won or str(PurePosixPath(file.key).parent) in self._folders)
