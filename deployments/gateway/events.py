"""Following tasks over HTTP, as server-sent events; the `id` of an event is where a client resumes.

A watch that cannot go on, say because its token was revoked, ends with an event `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field

from deployments.gateway.callers import Token
from deployments.gateway.pools import READS, STREAMS, BusyError
from deployments.gateway.routes import RuledRoute, rule
from tasks_lib import client, watch
from tasks_lib.auth import limits
from tasks_lib.errors import TaskError
from tasks_lib.events import Event

EventId = Annotated[int, Field(ge=0, lt=1 << 63)]
BEGIN_SECONDS = 5.0

router = APIRouter(route_class=RuledRoute)


def _last_seen(after: EventId | None = None, last_event_id: Annotated[EventId | None, Header()] = None) -> int | None:
    """Where to go on: browsers send the header by themselves when they connect again."""
    return after if last_event_id is None else last_event_id


LastSeen = Annotated[int | None, Depends(_last_seen)]


async def _take_place() -> AsyncIterator[None]:
    with STREAMS.taken():
        yield


# Dependencies run before the answer begins: who may not see a task gets a status, and no empty stream.
async def _seen_task(task_id: str, token: Token) -> client.Task:
    return await READS.run(client.get_task, task_id, token=token)


async def _start_in_project(project_id: str, token: Token, last_seen: LastSeen) -> int:
    if last_seen is not None:
        return last_seen
    try:
        async with asyncio.timeout(BEGIN_SECONDS):
            return await watch.last_event_id_async(project_id, token=token)
    except TimeoutError:
        raise BusyError(
            "somebody is writing tasks for long, so now cannot be told; try again, or send `after`"
        ) from None


@router.get("/v1/tasks/{task_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_take_place)])
@rule(READS, "tasks:read", limits.count_read)
async def watch_task(
    task: Annotated[client.Task, Depends(_seen_task)], token: Token, last_seen: LastSeen
) -> AsyncIterator[ServerSentEvent]:
    """What has happened to a task and what happens, until it has ended: then the stream ends too."""
    async for event in _sent(watch.watch_task_async(task.id, after=last_seen or 0, token=token)):
        yield event


@router.get("/v1/projects/{project_id}/events", response_class=EventSourceResponse, dependencies=[Depends(_take_place)])
@rule(READS, "tasks:read", limits.count_read)
async def watch_project(
    project_id: str, start: Annotated[int, Depends(_start_in_project)], token: Token
) -> AsyncIterator[ServerSentEvent]:
    """What happens to all tasks of a project, from now on or after the last event that was seen."""
    async for event in _sent(watch.watch_project_async(project_id, after=start, token=token)):
        yield event


async def _sent(events: AsyncIterator[Event]) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in events:
            yield ServerSentEvent(id=str(event.id), event=event.kind, data=asdict(event))
    except TaskError as error:
        yield ServerSentEvent(event="error", data={"kind": error.kind, "message": str(error)})
