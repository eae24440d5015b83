"""What a run of a deployment answers its caller. Prefect keeps it as JSON: it is small and holds no secret."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict

from db import tables
from tasks_lib import database, storage
from tasks_lib.errors import NotFoundError
from tasks_lib.masking import mask


class TaskOutcome(BaseModel):
    """What became of one task, as far as it is known when the run ends."""

    model_config = ConfigDict(frozen=True)

    task_id: UUID
    task_type: str
    status: Literal["Pending", "Processing", "Complete", "Failed", "Cancelled"]
    created: bool = True
    """False when the same request, by its idempotency key, was stored before."""
    output_url: str | None = None
    """Where the result lies in the storage."""
    error_message: str | None = None

    def summary(self) -> str:
        """The outcome in one line, for the message of a run's state."""
        known = "is" if self.created else "was there already and is"
        place = f": {self.output_url}" if self.output_url else ""
        return f"task {self.task_id} {known} {self.status}{place}"


class TaskRow(NamedTuple):
    """What of a task's row is told about it."""

    task_type: str
    project_id: UUID
    status: Literal["Pending", "Processing", "Complete", "Failed", "Cancelled"]
    params: dict[str, Any]
    output_location: str | None
    error_message: str | None
    result: dict[str, Any] | None


def row_of(task_id: UUID) -> TaskRow:
    """Read a task's row; whose it is was checked before. Raises `NotFoundError`."""
    t = tables.tasks
    columns = [t.c[name] for name in TaskRow._fields]
    with database.transaction() as connection:
        row = connection.execute(sa.select(*columns).where(t.c.id == task_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no task {task_id}: it was deleted")
    return TaskRow(*row)


def outcome_of(task_id: UUID, *, created: bool = True) -> TaskOutcome:
    """Read what has become of a task until now. Raises `NotFoundError`; whose it is was checked before."""
    row = row_of(task_id)
    return TaskOutcome(
        task_id=task_id,
        task_type=row.task_type,
        status=row.status,
        created=created,
        output_url=mask(storage.url(row.output_location)) if row.output_location else None,
        error_message=row.error_message,
    )
