"""Following tasks over HTTP, as server-sent events; the `id` of an event is where a client resumes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field

from deployments.gateway.callers import Token
from tasks_lib import client, watch
from tasks_lib.events import Event

EventId = Annotated[int, Field(ge=0)]

router = APIRouter()


def _last_seen(after: EventId | None = None, last_event_id: Annotated[EventId | None, Header()] = None) -> int | None:
    """Where to go on: browsers send the header by themselves when they connect again."""
    return after if last_event_id is None else last_event_id


LastSeen = Annotated[int | None, Depends(_last_seen)]


# Dependencies run before the answer begins: who may not see a task gets a status, and no empty stream.
def _seen_task(task_id: str, token: Token) -> client.Task:
    return client.get_task(task_id, token=token)


def _start_in_project(project_id: str, token: Token, last_seen: LastSeen) -> int:
    now = watch.last_event_id(project_id, token=token)
    return now if last_seen is None else last_seen


@router.get("/v1/tasks/{task_id}/events", response_class=EventSourceResponse)
async def watch_task(
    task: Annotated[client.Task, Depends(_seen_task)], token: Token, last_seen: LastSeen
) -> AsyncIterator[ServerSentEvent]:
    """What has happened to a task and what happens, until it has ended: then the stream ends too."""
    async for event in watch.watch_task_async(task.id, after=last_seen or 0, token=token):
        yield _sent(event)


@router.get("/v1/projects/{project_id}/events", response_class=EventSourceResponse)
async def watch_project(
    project_id: str, start: Annotated[int, Depends(_start_in_project)], token: Token
) -> AsyncIterator[ServerSentEvent]:
    """What happens to all tasks of a project, from now on or after the last event that was seen."""
    async for event in watch.watch_project_async(project_id, after=start, token=token):
        yield _sent(event)


def _sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.id), event=event.kind, data=asdict(event))
