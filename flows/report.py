"""What people see of a task's run in the Prefect UI besides its graph: what it is about, progress, result, links.

Each artifact is a call, so a travel has four and its progress: a page when it begins, and its film's facts and contact
sheet when it is there. All have keys, by which Prefect's page of artifacts lists them.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from flows.pages import code, data_url, key_of, page_of
from flows.runs import flow_run_url, task_run_url
from tasks_lib import storage
from tasks_lib.errors import TaskError
from tasks_lib.masking import mask
from tasks_lib.queue import ClaimedTask
from tasks_lib.queue.watching import Ended
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

STEP_PERCENT = 5.0
RESULT_SIDE = 640
NOT_SHOWN = (httpx.HTTPError, PrefectException, TaskError, OSError)


@dataclass(frozen=True)
class Run:
    """The run that artifacts are attached to: a flow run or a task run."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


@dataclass
class ProgressArtifact:
    """A progress bar on a flow run; it is moved in steps, since every move is a call."""

    artifact_id: UUID | None = None
    percent: float = 0.0
    key: str | None = None

    async def update(self, client: PrefectClient, flow_run_id: UUID, percent: float) -> None:
        """Show how far the run is, in percent."""
        if self.artifact_id is None:
            made = await client.create_artifact(
                ArtifactCreate(
                    type="progress", key=self.key, description="Progress", data=percent, flow_run_id=flow_run_id
                )
            )
            self.artifact_id, self.percent = made.id, percent
        elif percent >= self.percent + STEP_PERCENT or percent == 100 > self.percent:
            await client.update_artifact(self.artifact_id, ArtifactUpdate(data=percent))
            self.percent = percent


def made_by(ended: Ended) -> str | None:
    """Where a child's work is shown, for the message of its state."""
    if ended.task_run_id is None or ended.worker_flow_run_id is None:
        return None
    return f"made in {task_run_url(ended.task_run_id)} of the worker {flow_run_url(ended.worker_flow_run_id)}"


async def show_task(
    client: PrefectClient,
    run: Run,
    task_type: str,
    task_id: UUID,
    project_id: UUID,
    params: Mapping[str, Any],
    links: Sequence[str] = (),
) -> None:
    """Attach what a task is about to a run that shows it. Never fails: it is made all the same."""
    try:
        page = await asyncio.to_thread(page_of, task_id, project_id, params, links)
        await _attach(client, run, "markdown", key_of(task_type, task_id), "What it is about", page)
    except NOT_SHOWN as error:
        logger.warning("it is not shown what %s %s is about: %s", task_type, str(task_id)[:8], error)


async def show_claimed(client: PrefectClient, run: Run, task: ClaimedTask, links: Sequence[str] = ()) -> None:
    """Attach what a claimed task is about to a run that shows it."""
    await show_task(client, run, task.task_type, task.id, task.project_id, task.params, links)


async def show_result(client: PrefectClient, task: ClaimedTask, ended: Ended, progress: ProgressArtifact) -> None:
    """Attach what came out to the run that this is called in. Never fails: the result is stored already."""
    if ended.status != "Complete" or ended.output_location is None:
        return
    run, result = Run(flow_run_id=UUID(flow_run.id)), ended.result or {}
    try:
        await progress.update(client, UUID(flow_run.id), 100)
        page = "\n\n".join([_place(ended.output_location), *_notes(result), _table(result)])
        await _attach(
            client, run, "markdown", key_of(task.task_type, task.id, "film"), "The film, and its making", page
        )
        if sheet := result.get("contact_sheet_preview"):
            about = "Contact sheet; the keyframes are framed"
            await _attach_picture(client, run, key_of(task.task_type, task.id, "sheet"), about, sheet)
    except NOT_SHOWN as error:
        logger.warning("the result of %s is not shown: %s", task.name, error)


async def show_output(
    client: PrefectClient, run: Run, task_type: str, task_id: UUID, location: str, result: Mapping[str, Any]
) -> None:
    """Attach the result of a task without children to a run that waited for it. Never fails."""
    try:
        page = "\n\n".join([_place(location), *_notes(result)])
        await _attach(client, run, "markdown", key_of(task_type, task_id, "result"), "The result", page)
        if location.lower().endswith((".png", ".jpg", ".jpeg", ".webp")):
            await _attach_picture(client, run, key_of(task_type, task_id, "picture"), "The picture, small", location)
    except NOT_SHOWN as error:
        logger.warning("the result of %s %s is not shown: %s", task_type, str(task_id)[:8], error)


def link_to_run(name: str, flow_run_id: UUID) -> str:
    """Return the line that leads to the run of the orchestrator that a task is a part of."""
    return f"Part of [{name}]({flow_run_url(flow_run_id)})"


def _place(location: str) -> str:
    """Where the result lies: a link only where a browser can open it."""
    if base := get_settings().public_media_url:
        return f"[{Path(location).name}]({base.rstrip('/')}/{location})"
    place = code(mask(storage.url(location)), 1_000)
    return f"It lies at {place}; {code(f'unitask url {location}', 1_000)} prints an address of it."


def _notes(result: Mapping[str, Any]) -> list[str]:
    """What was asked for and not followed."""
    return ["\n".join(f"- {note}" for note in notes)] if (notes := result.get("notes")) else []


def _table(result: Mapping[str, Any]) -> str:
    media = result.get("media", {})
    lines = [
        f"**{media.get('frames')} frames**, {media.get('width')} x {media.get('height')}, "
        f"{media.get('duration', 0):.2f} s, {media.get('codec')}",
        "",
        "| segment | method | confidence | engine |",
        "|---|---|---|---|",
    ]
    for segment in result.get("segments", []):
        confidence = segment.get("confidence")
        sure = "" if confidence is None else f"{confidence:.2f}"
        lines.append(f"| {segment['key']} | {segment['method']} | {sure} | {segment['engine']} |")
    return "\n".join(lines)


async def _attach_picture(client: PrefectClient, run: Run, key: str, description: str, location: str) -> None:
    await _attach(client, run, "image", key, description, await asyncio.to_thread(_small, location))


def _small(location: str) -> str:
    with tempfile.TemporaryDirectory(prefix="unitask-") as folder:
        path = Path(folder) / "picture"
        storage.fetch(location, path)
        return data_url(path, RESULT_SIDE)


async def _attach(client: PrefectClient, run: Run, kind: str, key: str, description: str, data: str) -> None:
    await client.create_artifact(
        ArtifactCreate(
            type=kind,
            key=key,
            description=description,
            data=data,
            flow_run_id=run.flow_run_id,
            task_run_id=run.task_run_id,
        )
    )
