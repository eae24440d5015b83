"""What came of tasks: the tree below one, what a batch cost, how an image came about, where a browser finds a file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database, storage
from tasks_lib.arguments import Id, Seconds, Token, checked
from tasks_lib.auth import authenticate, require_project
from tasks_lib.client import Task, select_tasks, to_id
from tasks_lib.errors import NotFoundError
from tasks_lib.params.base import Text
from tasks_lib.settings import get_settings

_OF_BATCH = """
SELECT t.batch_id, t.status, count(*) AS tasks,
       -- A parent that has not ended costs what its children cost so far.
       sum(coalesce(t.cost, (SELECT sum(c.cost) FROM tasks c WHERE c.parent_task_id = t.id), 0)) AS cost
FROM tasks t JOIN projects p ON p.id = t.project_id
WHERE (t.batch_id = (SELECT coalesce(b.batch_id, CAST(:id AS uuid)) FROM (VALUES (1)) one
                     LEFT JOIN tasks b ON b.id = :id) OR t.id = :id)
  AND (CAST(:user_id AS uuid) IS NULL OR p.user_id = :user_id)
GROUP BY t.batch_id, t.status
"""

_HISTORY = """
WITH RECURSIVE line AS (
    SELECT g.id, g.based_on, 0 AS back FROM generations g JOIN projects p ON p.id = g.project_id
    WHERE (g.id = :id OR g.task_id = :id
           OR g.id IN (SELECT generation_id FROM generation_variants WHERE task_id = :id))
      AND (CAST(:user_id AS uuid) IS NULL OR p.user_id = :user_id)
    UNION ALL
    SELECT g.id, g.based_on, line.back + 1 FROM line JOIN generations g ON g.id = line.based_on
) CYCLE id SET again USING path
SELECT g.id AS generation_id, v.id AS variant_id, g.type, g.based_on, v.variant_type,
       coalesce(v.is_primary, false) AS is_primary, v.location, v.media, coalesce(v.params, g.params) AS made,
       coalesce(v.created_at, g.created_at) AS created_at
FROM (SELECT id, max(back) AS back FROM line WHERE NOT again GROUP BY id) l
JOIN generations g ON g.id = l.id LEFT JOIN generation_variants v ON v.generation_id = g.id
ORDER BY l.back DESC, v.created_at, v.id
"""


@dataclass(frozen=True)
class TaskTree:
    """A task and what is below it, in the order of creation."""

    task: Task
    children: tuple[TaskTree, ...]


@dataclass(frozen=True)
class BatchPart:
    """The tasks of a batch that have one status, and what they have cost so far in credits."""

    tasks: int
    cost: Decimal


@dataclass(frozen=True)
class Batch:
    """What became of the tasks of one call. `id` is None for a task that was created alone."""

    id: UUID | None
    by_status: dict[str, BatchPart]

    @property
    def tasks(self) -> int:
        """How many there are."""
        return sum(part.tasks for part in self.by_status.values())

    @property
    def cost(self) -> Decimal:
        """What they have cost so far, in credits."""
        return sum((part.cost for part in self.by_status.values()), Decimal(0))


@dataclass(frozen=True)
class Step:
    """One variant of a generation in an image's history, and how it was made; the variant is None for a placeholder."""

    generation_id: UUID
    variant_id: UUID | None
    type: str
    based_on: UUID | None
    variant_type: str | None
    is_primary: bool
    location: str | None
    media: dict[str, Any] | None
    made: dict[str, Any]
    """`task_type`, `params` and `result` of the task that made it; empty for what a person brought."""
    created_at: datetime


@checked
def get_tree(task_id: Id, *, token: Token = None) -> TaskTree:
    """A task with all tasks below it. Raises `NotFoundError`."""
    root = to_id(task_id)
    t = tables.tasks
    tree_ids = sa.select(sa.literal(root, sa.UUID).label("id")).cte("tree", recursive=True)
    child = t.alias("child")
    tree_ids = tree_ids.union_all(sa.select(child.c.id).where(child.c.parent_task_id == tree_ids.c.id))
    ids = t.c.id.in_(sa.select(tree_ids.c.id))
    found = select_tasks(authenticate(token), ids, order=[t.c.created_at, t.c.id], limit=None)
    below: dict[UUID | None, list[Task]] = defaultdict(list)
    for task in found:
        below[task.parent_task_id].append(task)

    def tree(task: Task) -> TaskTree:
        return TaskTree(task, tuple(tree(child) for child in below[task.id]))

    top = next((task for task in found if task.id == root), None)
    if top is None:
        raise NotFoundError(f"there is no task {task_id}")
    return tree(top)


@checked
def get_batch(batch_id: Id, *, token: Token = None) -> Batch:
    """How many tasks of one call are where, and what they cost, named by the batch's id or that of any task in it.

    Raises `NotFoundError` if nothing of the batch is the caller's.
    """
    rows = _query(_OF_BATCH, batch_id, token)
    if not rows:
        raise NotFoundError(f"there is no batch {batch_id}")
    return Batch(rows[0]["batch_id"], {row["status"]: BatchPart(row["tasks"], row["cost"]) for row in rows})


@checked
def get_history(generation_id: Id, *, token: Token = None) -> list[Step]:
    """How an image or film came about: what it is based on, back to the first, and every variant of each, oldest first.

    It is named by its generation's id, or by the id of a task that made it. Raises `NotFoundError`.
    """
    rows = _query(_HISTORY, generation_id, token)
    if not rows:
        raise NotFoundError(f"there is no generation {generation_id}")
    return [Step(**row) for row in rows]


@checked
def media_url(location: Text, *, seconds: Seconds | None = None, token: Token = None) -> str:
    """Where a browser finds a stored file: an output, what lies beside it, or an upload.

    Signed by the storage for `seconds` (else `media_url_seconds`), or under `public_media_url` where that is set.
    Raises `NotFoundError` for what is in no project of the caller's.
    """
    caller = authenticate(token)
    caller.require("tasks:read")
    try:
        project = require_project(caller, to_id(location.removeprefix(storage.SCHEME).partition("/")[0]))
        key = storage.key_of(location, project.id)
    except NotFoundError:
        raise NotFoundError(f"there is no file `{location:.200}`") from None
    return storage.public_url(key, seconds or get_settings().media_url_seconds)


def _query(statement: str, id_: UUID | str, token: Token) -> list[dict[str, Any]]:
    caller = authenticate(token)
    caller.require("tasks:read")
    values = {"id": to_id(id_), "user_id": None if caller.is_service else caller.user_id}
    with database.transaction() as connection:
        return [dict(row) for row in connection.execute(sa.text(statement), values).mappings()]
