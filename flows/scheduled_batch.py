"""The flow `scheduled-batch`: tasks from a template and a list. A second run for the same time makes nothing new."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field, SecretStr

from flows import fleet, schedules
from flows.names import typed_or
from flows.requests import Step, request_flow
from flows.runs import is_tried_again, this_flow_run_id
from flows.tokens import open_token
from tasks_lib import batches, templates
from tasks_lib.batches import BatchReport
from tasks_lib.database import through_outages
from tasks_lib.errors import DatabaseError, TaskValidationError
from tasks_lib.params.base import Id
from tasks_lib.queue import leases

SHOWN_REFUSALS = 200
LATE = timedelta(minutes=1)
"""So much later than planned, a run says so: a process takes seconds to start."""


@request_flow("scheduled-batch", typed_or(lambda parameters: f"batch {parameters.get('template')}"))
async def scheduled_batch(
    project_id: Id,
    template: str,
    items: Annotated[list[dict[str, Any]], Field(max_length=1_000)] = [],  # noqa: B006  Prefect copies it
    items_url: str | None = None,
    images: str | None = None,
    images_field: str = "image_url",
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[BatchReport]:
    """Create a task from a template for every row of a list; what is wrong is reported and does not stop the others.

    Args:
        project_id: The project that the tasks belong to.
        template: Name of a stored parameter set of that project.
        items: Rows, each with what differs from the template. Give one of `items`, `items_url` and `images`.
        items_url: A .jsonl or .csv file with the rows: http(s), or a place that UNITASK_BATCH_URLS allows.
        images: A pattern of pictures, `s3://bucket/in/*.png`: a row for each. UNITASK_BATCH_URLS must allow it.
        images_field: The parameter that takes the picture of a row.
        token_block: Name of the Prefect Secret block with the caller's token; the token itself is never a parameter.
        sealed_token: The caller's token, sealed for the first six parameters as JSON; see tasks_lib/auth/sealing.py.
    """
    request: dict[str, Any] = {
        "project_id": str(project_id),
        "template": template,
        "items": items,
        "items_url": items_url,
        "images": images,
        "images_field": images_field,
    }
    with schedules.working_on(str(flow_run.id)):
        return await _make(request, token_block, sealed_token)


async def _make(request: dict[str, Any], token_block: str, sealed_token: str | None) -> State[BatchReport]:
    occasion = await _occasion(request, sealed_token)
    title = {"key": re.sub(r"[^a-z0-9]+", "-", f"batch {request['template']}".lower()).strip("-")}
    if occasion.missed:
        await acreate_markdown_artifact(occasion.missed, **title, description=f"The time {occasion.planned}")
        return Cancelled(name=schedules.MISSED, message=occasion.missed)
    token = await open_token(token_block, sealed_token, request)
    requests = await collect(**request, occasion=occasion.key, token=token)
    report = await create(requests, token)
    # The rows are stored: workers and `maintenance` order workers too.
    with suppress(httpx.HTTPError, DatabaseError):
        await asyncio.to_thread(fleet.ensure_workers)
    page = as_markdown(report) + (f"\n\n{occasion.late}" if occasion.late else "")
    await acreate_markdown_artifact(page, **title, description=f"What became of {len(requests)} rows")
    summary = report.summary() + (f"; {occasion.late}" if occasion.late else "")
    if not (report.created or report.already_there):
        return Failed(message=summary)
    return Completed(message=summary, data=report)


@dataclass(frozen=True)
class Occasion:
    """What this run is for: what the keys of its rows begin with, its planned time, and what there is to say of it."""

    key: str
    planned: datetime
    late: str | None
    missed: str | None


async def _occasion(request: dict[str, Any], sealed_token: str | None) -> Occasion:
    """Why this run is there. One that comes again has the same key, and makes nothing new.

    That is the one of its schedule and time, or else of its request and time: two lists for one time are two occasions.
    """
    async with get_client() as client:
        run = await client.read_flow_run(UUID(flow_run.id))
        planned = run.expected_start_time or run.created
        now = datetime.now(UTC)
        assert planned is not None
        assert run.created is not None
        schedule_id, missed = schedules.schedule_of(run.idempotency_key), None
        if schedule_id:
            key = str(run.idempotency_key)
            # What had begun goes on, and what a person retries is made, however late it is.
            states = await client.read_flow_run_states(run.id) if run.run_count <= 1 else []
            if states and not any(state.is_final() for state in states):
                missed = await _missed(client, run, schedule_id, now)
        else:
            text = sealed_token or f"{planned.isoformat()}:{json.dumps(request, sort_keys=True)}"
            key = hashlib.sha256(text.encode()).hexdigest()
            # Of a time that had passed when somebody asked for it, the run is late from then on.
            planned = max(planned, run.created)
    late = f"late by {schedules.spoken(now - planned)}" if now - planned > LATE else None
    return Occasion(key, planned, late, missed)


async def _missed(client: PrefectClient, run: FlowRun, schedule_id: str, now: datetime) -> str | None:
    assert run.deployment_id is not None
    assert run.expected_start_time is not None
    found = [
        s for s in await client.read_deployment_schedules(run.deployment_id) if str(s.id) == schedule_id and s.active
    ]
    latest: datetime = run.expected_start_time
    if found:
        rhythm = found[0].schedule.model_dump(mode="json")
        latest = await asyncio.to_thread(schedules.latest_of, rhythm, latest, now)
    mark = await through_outages(schedules.mark_of, schedule_id)
    return schedules.why_not(run.expected_start_time, latest, now, mark)


@Step
async def collect(
    project_id: str,
    template: str,
    items: list[dict[str, Any]],
    items_url: str | None,
    images: str | None,
    images_field: str,
    occasion: str,
    token: SecretStr,
) -> list[dict[str, Any]]:
    """The requests of this occasion: the template's parameters, and in their place those of each row."""
    if sum(map(bool, (items, items_url, images))) != 1:
        raise TaskValidationError("give one of `items`, `items_url` and `images`", "items")
    stored = await through_outages(templates.get_template, template, project_id=project_id, token=token)
    if items_url:
        items = await asyncio.to_thread(batches.fetch_items, items_url, stored.task_type)
    if images:
        found = await asyncio.to_thread(batches.upload_folder, images, project_id=project_id, token=token)
        items = [{images_field: reference} for reference in found]
    return [
        {
            "task_type": stored.task_type,
            "params": stored.with_overrides(item),
            "project_id": project_id,
            "idempotency_key": f"{occasion}:{row}",
        }
        for row, item in enumerate(items)
    ]


@Step
async def create(requests: list[dict[str, Any]], token: SecretStr) -> BatchReport:
    """Store what is valid, and say what is not; a run that is tried again brings back what failed since."""
    report = await through_outages(
        batches.create_what_is_valid, requests, token=token, made_by_run_id=this_flow_run_id()
    )
    if report.already_there and await is_tried_again():
        await through_outages(leases.retry_failed, report.already_there)
    return report


def as_markdown(report: BatchReport) -> str:
    """The report as a page: the numbers, and every refused row with its reason."""
    lines = [
        f"**{len(report.created)} created**, {len(report.already_there)} already there, {len(report.refused)} refused",
    ]
    if report.refused:
        lines += ["", "| row | field | why |", "|---|---|---|"]
        lines += [f"| {r.index} | {_cell(r.field)} | {_cell(r.message)} |" for r in report.refused[:SHOWN_REFUSALS]]
    if len(report.refused) > SHOWN_REFUSALS:
        lines.append(f"\n… and {len(report.refused) - SHOWN_REFUSALS} more")
    return "\n".join(lines)


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ")
