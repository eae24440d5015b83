"""A watcher to be killed: a process that follows a project and writes down what it has seen."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from tasks_lib import watch_project


def seen(journal: Path) -> list[int]:
    """The ids that were written down."""
    return [int(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]


def follow(database_url: str, token: str, project_id: UUID, journal: Path) -> None:
    """Go on where the journal ends, until killed."""
    os.environ["UNITASK_DATABASE_URL"] = database_url
    with journal.open("ab", buffering=0) as file:
        for event in watch_project(project_id, after=max(seen(journal), default=0), token=token):
            # One write: a kill comes before it or after it.
            file.write(f"{event.id}\n".encode())
