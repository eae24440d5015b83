"""The flow `scheduled-batch`: tasks from a template and a list. A second run for the same time makes nothing new."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed
from pydantic import Field, SecretStr

from flows import fleet
from flows.create_task import STEP
from flows.tokens import open_token
from tasks_lib import batches, templates
from tasks_lib.batches import BatchReport
from tasks_lib.errors import TaskValidationError
from tasks_lib.params.base import Id

SHOWN_REFUSALS = 200


@flow(name="scheduled-batch", flow_run_name="batch {template}", persist_result=False)
async def scheduled_batch(
    project_id: Id,
    template: str,
    items: Annotated[list[dict[str, Any]], Field(max_length=1_000)] = [],  # noqa: B006  Prefect copies it
    items_url: str | None = None,
    images: str | None = None,
    images_field: str = "image_url",
    token_block: str = "unitask-token",  # noqa: S107  the name of a block
    sealed_token: str | None = None,
) -> State[Any]:
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
    token = await open_token(token_block, sealed_token, request)
    requests = await collect(**request, occasion=_occasion(template, sealed_token), token=token)
    report = await create(requests, token)
    await asyncio.to_thread(fleet.ensure_workers)
    await acreate_markdown_artifact(as_markdown(report), description=f"What became of {len(requests)} rows")
    summary = f"{len(report.created)} created, {len(report.already_there)} already there, {len(report.refused)} refused"
    nothing = not (report.created or report.already_there)
    return Failed(message=summary) if nothing else Completed(message=summary)


def _occasion(template: str, sealed_token: str | None) -> str:
    """What the keys of the rows begin with: a run that comes again has them again, and makes nothing new."""
    if sealed_token:
        return hashlib.sha256(sealed_token.encode()).hexdigest()
    return f"{deployment.name or 'scheduled-batch'}:{template}:{flow_run.scheduled_start_time.isoformat()}"


@task(**STEP)
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
    stored = await asyncio.to_thread(templates.get_template, template, project_id=project_id, token=token)
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


@task(**STEP)
async def create(requests: list[dict[str, Any]], token: SecretStr) -> BatchReport:
    """Store what is valid, and say what is not."""
    return await asyncio.to_thread(batches.create_what_is_valid, requests, token=token)


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
