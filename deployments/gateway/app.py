"""The gateway's calls. Each is one call of the library, which checks everything; here is only HTTP."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from pydantic import AwareDatetime, BaseModel, FailFast

from deployments.gateway import answers, events
from deployments.gateway.bodies import BoundedBodies
from deployments.gateway.callers import MaybeToken, Token
from deployments.gateway.pools import CHANGES, CREATES, FILES, HEALTH, READS, UPLOADS
from deployments.gateway.routes import RuledRoute, rule
from tasks_lib import client, creation, database, results
from tasks_lib.auth import limits
from tasks_lib.availability import TypeFacts, list_task_types
from tasks_lib.billing.cost import Quote
from tasks_lib.creation import TaskCreated, TaskRequest
from tasks_lib.errors import TaskValidationError
from tasks_lib.media import kinds
from tasks_lib.settings import get_settings
from tasks_lib.types.table import find_type

router = APIRouter(route_class=RuledRoute)


def create_app() -> FastAPI:
    """The gateway as an ASGI application; settings are those of the process."""
    app = FastAPI(title="Unitask", version=version("unitask"), description="Create, follow and cancel media tasks.")
    app.state.large = asyncio.Semaphore(1)
    answers.install(app)
    app.add_middleware(BoundedBodies)
    if origins := get_settings().gateway_origins:
        # Tokens come in a header that pages set themselves; cookies are neither sent nor read.
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"])
    app.include_router(router)
    app.include_router(events.router)
    return app


@router.get("/health")
@rule(HEALTH)
def health() -> dict[str, str]:
    """Whether the service can reach its database."""
    with database.transaction():
        return {"status": "ok"}


@router.get("/v1/types")
@rule(READS)
def list_types(token: MaybeToken) -> list[TypeFacts]:
    """The task types that people may create, and whether they work here or what they need; a token may be sent."""
    return list_task_types(token=token)


@router.get("/v1/types/{name}")
@rule(READS)
def show_type(name: str) -> dict[str, Any]:
    """The JSON schema of a task type's parameters."""
    schema: dict[str, Any] = find_type(name).params.model_json_schema()
    return schema


class QuoteRequest(BaseModel):
    """A task that is not to be made yet."""

    task_type: str
    params: dict[str, Any]
    project_id: UUID


@router.post("/v1/quotes")
@rule(READS, "tasks:create", limits.count_quote)
def quote(request: QuoteRequest, token: Token) -> Quote:
    """What a task would cost, in credits; nothing is stored."""
    return creation.quote(request.task_type, request.params, project_id=request.project_id, token=token)


@router.post("/v1/tasks", status_code=201)
@rule(CREATES, "tasks:create", limits.count_create)
def create_task(request: TaskRequest, token: Token, response: Response) -> TaskCreated:
    """Create a task: 201, or 200 if its idempotency key had made it before."""
    (made,) = creation.create_tasks([request], token=token)
    response.status_code = 201 if made.created else 200
    return made


@router.post("/v1/tasks/batch", status_code=201)
@rule(CREATES, "tasks:create", limits.count_create)
def create_tasks(
    requests: Annotated[list[TaskRequest], FailFast(), Body(embed=True)], token: Token
) -> list[TaskCreated]:
    """Create all of a batch, or nothing and an answer that names every refused row."""
    return creation.create_tasks(requests, token=token)


@router.get("/v1/tasks")
@rule(READS, "tasks:read", limits.count_read)
def list_tasks(
    token: Token,
    project_id: UUID | None = None,
    status: Annotated[list[str] | None, Query()] = None,
    task_type: str | None = None,
    batch_id: UUID | None = None,
    parent_task_id: UUID | None = None,
    shot_id: UUID | None = None,
    created_after: AwareDatetime | None = None,
    created_before: AwareDatetime | None = None,
    text: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> list[dict[str, Any]]:
    """The caller's tasks, newest first; those of a batch or parent in their order.

    The next page is what comes `after` the `cursor` of the last task.
    """
    found = client.list_tasks(
        project_id=project_id,
        status=status,
        task_type=task_type,
        batch_id=batch_id,
        parent_task_id=parent_task_id,
        shot_id=shot_id,
        created_after=created_after,
        created_before=created_before,
        text=text,
        after=after,
        limit=limit,
        token=token,
    )
    return [_shown(task) for task in found]


@router.get("/v1/tasks/{task_id}")
@rule(READS, "tasks:read", limits.count_read)
def get_task(task_id: str, token: Token) -> dict[str, Any]:
    """One task."""
    return _shown(client.get_task(task_id, token=token))


@router.post("/v1/tasks/{task_id}/cancel")
@rule(CHANGES, "tasks:cancel", limits.count_change)
def cancel_task(task_id: str, token: Token) -> list[UUID]:
    """Cancel a task and all below it; the answer names what was cancelled."""
    return client.cancel_task(task_id, token=token)


@router.post("/v1/batches/{batch_id}/cancel")
@rule(CHANGES, "tasks:cancel", limits.count_change)
def cancel_batch(batch_id: str, token: Token) -> list[UUID]:
    """Cancel what has not ended of a batch, named by its id or that of any task in it."""
    return client.cancel_batch(batch_id, token=token)


@router.post("/v1/tasks/{task_id}/retry")
@rule(CHANGES, "tasks:create", limits.count_change)
def retry_task(task_id: str, token: Token) -> list[UUID]:
    """Bring a failed or cancelled task back; the answer names what will run again."""
    return client.retry_task(task_id, token=token)


@router.get("/v1/batches/{batch_id}")
@rule(READS, "tasks:read", limits.count_read)
def get_batch(batch_id: str, token: Token) -> dict[str, Any]:
    """How many tasks of a batch are where, and what they cost."""
    batch = results.get_batch(batch_id, token=token)
    parts = {status: {"tasks": part.tasks, "cost": str(part.cost)} for status, part in batch.by_status.items()}
    return {"id": batch.id, "tasks": batch.tasks, "cost": str(batch.cost), "by_status": parts}


@router.get("/v1/tasks/{task_id}/tree")
@rule(READS, "tasks:read", limits.count_read)
def get_tree(task_id: str, token: Token) -> dict[str, Any]:
    """A task with all tasks below it."""
    return _tree(results.get_tree(task_id, token=token))


@router.get("/v1/generations/{generation_id}/history")
@rule(READS, "tasks:read", limits.count_read)
def get_history(generation_id: str, token: Token) -> list[results.Step]:
    """How an image or film came about, oldest step first; named by its id or that of a task that made it."""
    return results.get_history(generation_id, token=token)


@router.get("/v1/media-url")
@rule(READS, "tasks:read", limits.count_read)
def media_url(location: str, token: Token) -> dict[str, str]:
    """Where a browser finds a stored file."""
    return {"url": results.media_url(location, token=token)}


@router.put("/v1/projects/{project_id}/media", status_code=201)
@rule(UPLOADS, "tasks:create", limits.count_upload, takes_file=True)
async def upload_media(
    project_id: str, name: Annotated[str, Query(max_length=200)], request: Request, token: Token
) -> dict[str, str]:
    """Store the body, a picture or clip named `name`, and answer the reference by which requests name it."""
    # A name may be what no file system takes; only its end says something.
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in kinds.SUFFIXES:
        allowed = ", ".join(kinds.SUFFIXES)
        raise TaskValidationError(f"`{name}` is no picture, clip or sound by its name; allowed are {allowed}", "name")
    with FILES.taken(), tempfile.TemporaryDirectory(prefix="unitask-upload-") as folder:
        path = Path(folder) / f"media{suffix}"
        await _receive(request, path)
        return {"reference": await UPLOADS.run(client.upload_media, path, project_id=project_id, token=token)}


def _shown(task: client.Task) -> dict[str, Any]:
    derived: dict[str, Any] = {"cost": None if task.cost is None else str(task.cost), "output_url": task.output_url}
    if task.quote is not None:
        derived["quote"] = {"low": str(task.quote.low), "high": str(task.quote.high), "units": task.quote.units}
    return {**asdict(task), **derived, "cursor": task.cursor, "notes": task.notes}


def _tree(tree: results.TaskTree) -> dict[str, Any]:
    return {"task": _shown(tree.task), "children": [_tree(child) for child in tree.children]}


async def _receive(request: Request, path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)
