"""What callers do with tasks after their creation: look, wait, cancel, retry; and bring media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from db import tables
from tasks_lib import database, eta, storage
from tasks_lib.arguments import Id, Limit, Status, Token, checked
from tasks_lib.auth import Caller, authenticate, limits, require_project
from tasks_lib.billing.cost import Quote
from tasks_lib.errors import NotFoundError, StorageError, TaskValidationError
from tasks_lib.events import FINAL
from tasks_lib.params.base import Text
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings

MAX_UPLOAD_BYTES = 2 << 30
_SIMPLE: sa.ColumnClause[Any] = sa.literal_column("'simple'::regconfig")


@dataclass(frozen=True)
class Task:
    """A task as its owner sees it. `percent` is from 0 to 100; for a parent, the mean of its children.

    `remaining_seconds` is an estimate for a task that runs (eta.py), `preview_key` where a picture of it lies so far;
    `quote` is the price that was frozen at its creation, None for a row that came without one.
    """

    id: UUID
    project_id: UUID
    task_type: str
    status: str
    params: dict[str, Any]
    priority: int
    parent_task_id: UUID | None
    child_key: str | None
    batch_id: UUID | None
    attempt: int
    max_attempts: int
    output_location: str | None
    result: dict[str, Any] | None
    error_kind: str | None
    error_message: str | None
    cost: Decimal | None
    flow_run_id: UUID | None
    task_run_id: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    percent: float
    message: str | None
    step: int | None
    total_steps: int | None
    preview_key: str | None
    remaining_seconds: float | None
    quote: Quote | None

    @property
    def is_final(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.status in FINAL

    @property
    def output_url(self) -> str | None:
        """Where the output lies, as an fsspec URL."""
        return storage.url(self.output_location) if self.output_location else None

    @property
    def notes(self) -> list[str]:
        """What the result says of the request, such as what was asked for and not followed."""
        notes = self.result.get("notes") if isinstance(self.result, dict) else None
        return [str(note) for note in notes] if isinstance(notes, list) else []

    @property
    def cursor(self) -> str:
        """Its place in lists, for the page `after` it."""
        return f"{self.created_at.isoformat()}_{self.id}"


@checked
def get_task(task_id: Id, *, token: Token = None) -> Task:
    """One task. Raises `NotFoundError` for a missing one and for one of somebody else."""
    return _require(authenticate(token), task_id)


@checked
def list_tasks(
    *,
    project_id: Id | None = None,
    status: Status | Sequence[Status] | None = None,
    task_type: Text | None = None,
    batch_id: Id | None = None,
    parent_task_id: Id | None = None,
    top_level: bool = False,
    shot_id: Id | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    text: Text | None = None,
    after: Text | None = None,
    limit: Limit = 50,
    token: Token = None,
) -> list[Task]:
    """The caller's tasks, newest first; those of one parent or batch in the order of their creation.

    `top_level` leaves the children of others out. `text` are words of the parameters, as one types them into a web
    search, and a status counts in any case of its letters. The next page is what comes `after` the
    `cursor` of this page's last task: whatever is created meanwhile, it skips and repeats nothing.
    """
    caller = authenticate(token)
    caller.require("tasks:read")
    limits.count_read(caller)
    t = tables.tasks
    ids = {t.c.project_id: project_id, t.c.batch_id: batch_id, t.c.parent_task_id: parent_task_id}
    filters = [column == to_id(value) for column, value in ids.items() if value is not None]
    if top_level:
        filters.append(t.c.parent_task_id.is_(None))
    if shot_id is not None:
        filters.append(sa.literal_column(tables.SHOT_OF_TASK) == str(to_id(shot_id)))
    if status is not None:
        filters.append(t.c.status.in_([status] if isinstance(status, str) else list(status)))
    if task_type is not None:
        filters.append(t.c.task_type == task_type)
    if created_after is not None:
        filters.append(t.c.created_at >= created_after)
    if created_before is not None:
        filters.append(t.c.created_at < created_before)
    if text is not None:
        words = sa.func.jsonb_to_tsvector(_SIMPLE, t.c.params, sa.literal_column("""'["string"]'::jsonb"""))
        filters.append(words.op("@@", is_comparison=True)(sa.func.websearch_to_tsquery(_SIMPLE, text)))
    oldest_first = batch_id is not None or parent_task_id is not None
    place = sa.tuple_(t.c.created_at, t.c.id)
    if after is not None:
        filters.append(place > _place(after) if oldest_first else place < _place(after))
    order = [t.c.created_at, t.c.id] if oldest_first else [t.c.created_at.desc(), t.c.id.desc()]
    if not (oldest_first or project_id or shot_id):
        filters = [t.c.id.in_(_newest_of_each_project(caller, filters, order, limit))]
    return select_tasks(caller, *filters, order=order, limit=limit)


@checked
def list_dead_letters(*, project_id: Id | None = None, limit: Limit = 50, token: Token = None) -> list[Task]:
    """Tasks that failed for good by themselves, newest first: those to look into, and to retry.

    What failed because of another (a dependant, a parent) comes back with the one that is retried.
    """
    t = tables.tasks
    child = t.alias("child")
    filters = [
        t.c.status == "Failed",
        t.c.error_kind != "dependency",
        ~sa.exists().where(child.c.parent_task_id == t.c.id),
    ]
    if project_id is not None:
        filters.append(t.c.project_id == to_id(project_id))
    return select_tasks(authenticate(token), *filters, order=[t.c.finished_at.desc(), t.c.id], limit=limit)


@checked
def cancel_task(task_id: Id, *, reason: Text = "cancelled by its owner", token: Token = None) -> list[UUID]:
    """Cancel a task and all below it that has not ended, and return what was cancelled.

    What runs at this moment stops within a heartbeat of its worker.
    """
    caller = authenticate(token)
    caller.require("tasks:cancel")
    limits.count_change(caller)
    task = _require(caller, task_id)
    return leases.cancel(task.id, reason)


@checked
def cancel_batch(batch_id: Id, *, reason: Text = "cancelled by its owner", token: Token = None) -> list[UUID]:
    """Cancel all that has not ended of what one call created, named by the batch's id or that of any task in it.

    Returns what was cancelled. Raises `NotFoundError` if nothing of the batch is the caller's.
    """
    caller = authenticate(token)
    caller.require("tasks:cancel")
    limits.count_change(caller)
    return leases.cancel_batch(to_id(batch_id), None if caller.is_service else caller.user_id, reason)


@checked
def retry_task(task_id: Id, *, token: Token = None) -> list[UUID]:
    """Bring a failed or cancelled task back, with what depends on it, and return what will run again.

    Raises `ConflictError` for a task that has not failed and was not cancelled, or that waits for another one which
    did not complete, and `InsufficientCreditsError`.
    """
    caller = authenticate(token)
    caller.require("tasks:create")
    limits.count_change(caller)
    task = _require(caller, task_id)
    return leases.retry(task.id)


def percent_of(parent_ids: list[UUID]) -> dict[UUID, float]:
    """How far some parents are: the mean of their children, from 0 to 100."""
    t = tables.tasks
    with database.transaction() as connection:
        rows = connection.execute(
            sa.select(t.c.parent_task_id, sa.func.avg(_own_percent(t, tables.task_progress)))
            .select_from(t.outerjoin(tables.task_progress, _of_lease(t, tables.task_progress)))
            .where(t.c.parent_task_id.in_(parent_ids))
            .group_by(t.c.parent_task_id)
        )
        return {row[0]: float(row[1]) for row in rows}


@checked
def upload_media(path: str | Path, *, project_id: Id, token: Token = None) -> str:
    """Store a picture or clip in a project, and return the reference by which requests name it."""
    caller = authenticate(token)
    caller.require("tasks:create")
    limits.count_upload(caller)
    project = require_project(caller, to_id(project_id))
    source = Path(path)
    try:
        found = source.is_file()
    except (OSError, ValueError) as error:
        raise TaskValidationError(f"there can be no such file: {getattr(error, 'strerror', error)}", "path") from None
    if not found:
        raise TaskValidationError(f"there is no file `{source}`", "path")
    if source.stat().st_size > MAX_UPLOAD_BYTES:
        raise TaskValidationError(f"`{source.name}` has more than {MAX_UPLOAD_BYTES} bytes", "path")
    key = storage.upload_key(project.id, source)
    maximum = get_settings().upload_bytes_per_user
    size = source.stat().st_size
    database.call("hold_upload", p_project_id=project.id, p_key=key, p_bytes=size, p_max_bytes=maximum)
    if not storage.exists(key):
        try:
            storage.put(source, key)
        except StorageError:
            database.call("free_upload", p_key=key)
            raise
    return storage.reference(key)


def _own_percent(task: sa.FromClause, progress: sa.FromClause) -> sa.ColumnElement[float]:
    return sa.case(
        (task.c.status == "Complete", 100.0),
        (task.c.status == "Pending", 0.0),
        else_=sa.func.coalesce(progress.c.percent, 0.0),
    )


def _of_lease(task: sa.FromClause, progress: sa.FromClause) -> sa.ColumnElement[bool]:
    """What an earlier attempt has reported does not count."""
    return sa.and_(progress.c.task_id == task.c.id, progress.c.lease_id == task.c.lease_id)


def _require(caller: Caller, task_id: UUID | str) -> Task:
    found = select_tasks(caller, tables.tasks.c.id == to_id(task_id))
    if not found:
        raise NotFoundError(f"there is no task {task_id}")
    return found[0]


def select_tasks(
    caller: Caller, *filters: sa.ColumnElement[bool], order: Any = (), limit: int | None = 1
) -> list[Task]:
    """The caller's tasks that pass these filters, on the columns of `tasks`."""
    t, p, progress = tables.tasks, tables.projects, tables.task_progress
    child = t.alias("child")
    child_progress = progress.alias("child_progress")
    of_children = (
        sa.select(sa.func.avg(_own_percent(child, child_progress)))
        .select_from(child.outerjoin(child_progress, _of_lease(child, child_progress)))
        .where(child.c.parent_task_id == t.c.id)
        .scalar_subquery()
    )
    told = _told_of_parent(t)
    columns = [t.c[name] for name in Task.__dataclass_fields__ if name in t.c]
    began = sa.case((t.c.status != "Processing", None), (t.c.hosted, t.c.started_at), else_=t.c.claimed_at)
    statement = (
        sa.select(
            *columns,
            sa.func.coalesce(of_children, _own_percent(t, progress)).label("percent"),
            *(progress.c[name] for name in ("message", "step", "total_steps", "preview_key")),
            t.c.model,
            t.c.price,
            sa.extract("epoch", sa.func.clock_timestamp() - began).label("elapsed"),
            *(told.c[name].label(f"told_{name}") for name in ("data", "age")),
        )
        .select_from(
            t.join(p, p.c.id == t.c.project_id).outerjoin(progress, _of_lease(t, progress)).outerjoin(told, sa.true())
        )
        .where(*filters)
        .order_by(*order)
        .limit(limit)
    )
    caller.require("tasks:read")
    if not caller.is_service:
        statement = statement.where(p.c.user_id == caller.user_id)
    with database.transaction() as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
    typical = eta.typical_seconds() if any(row["elapsed"] is not None for row in rows) else {}
    return [Task(remaining_seconds=_remaining(row, typical), quote=_quote(row.pop("price")), **row) for row in rows]


def _quote(price: Any) -> Quote | None:
    """The quote of a stored price; None for what is none, as plain SQL may write it."""
    try:
        return Quote.of(price) if price else None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None


def _told_of_parent(t: sa.Table) -> sa.FromClause:
    """The newest progress of an orchestrator that runs, as `report_parent` told it, and how old that is in seconds."""
    e = tables.task_events
    age = sa.extract("epoch", sa.func.clock_timestamp() - e.c.created_at).label("age")
    told = sa.select(e.c.data, age).where(
        e.c.task_id == t.c.id, e.c.kind == "progress", t.c.hosted, t.c.status.in_(("Pending", "Processing"))
    )
    return told.order_by(e.c.id.desc()).limit(1).lateral("told")


def _remaining(row: dict[str, Any], typical: Mapping[tuple[str, str | None], float]) -> float | None:
    """How long a running task will take; takes what only this needs out of its row.

    A parent's was told with its last event, and only falls until something new happens.
    """
    elapsed, model = row.pop("elapsed"), row.pop("model")
    told = {name.removeprefix("told_"): row.pop(name) for name in [*row] if name.startswith("told_")}
    if told["data"] is not None:
        row |= {name: told["data"].get(name) for name in ("step", "total_steps", "preview_key")}
    if elapsed is None:
        return None
    if (left := (told["data"] or {}).get("remaining_seconds")) is not None:
        return max(0.0, float(left) - float(told["age"]))
    return eta.remaining_seconds(float(elapsed), row["percent"] / 100, typical.get((row["task_type"], model)))


def _newest_of_each_project(
    caller: Caller, filters: Sequence[sa.ColumnElement[bool]], order: Sequence[Any], limit: int
) -> sa.Select[tuple[UUID]]:
    """What a page over all projects can be made of: each project's own page, by that project's part of the index."""
    t, p = tables.tasks, tables.projects.alias("mine")
    own = sa.select(t.c.id).where(t.c.project_id == p.c.id, *filters).order_by(*order).limit(limit)
    page = own.correlate(p).lateral()
    statement = sa.select(page.c.id).select_from(p.join(page, sa.true()))
    return statement if caller.is_service else statement.where(p.c.user_id == caller.user_id)


def _place(cursor: str) -> sa.Tuple:
    try:
        created_at, _, id_ = cursor.partition("_")
        return sa.tuple_(sa.literal(datetime.fromisoformat(created_at)), sa.literal(UUID(id_)))
    except ValueError:
        raise TaskValidationError(f"`after` must be the `cursor` of a task, not {cursor!r}", "after") from None


def to_id(value: UUID | str) -> UUID:
    """An id that a caller gave, which may be its text. Raises `NotFoundError` for what is no id at all."""
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise NotFoundError(f"there is nothing with the id {value!r:.80}") from None
