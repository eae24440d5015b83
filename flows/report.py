"""What people see of an orchestrator in the Prefect UI besides its graph: progress, result, contact sheet, links."""

from __future__ import annotations

import asyncio
import base64
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import acreate_image_artifact, acreate_link_artifact, acreate_markdown_artifact
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from flows.runs import flow_run_url, task_run_url
from tasks_lib import storage
from tasks_lib.errors import TaskError
from tasks_lib.queue.watching import Ended

logger = logging.getLogger(__name__)

STEP_PERCENT = 5.0


@dataclass
class ProgressArtifact:
    """A progress bar on a flow run; it is moved in steps, since every move is a call."""

    artifact_id: UUID | None = None
    percent: float = 0.0

    async def update(self, client: PrefectClient, flow_run_id: UUID, percent: float) -> None:
        """Show how far the run is, in percent."""
        if self.artifact_id is None:
            made = await client.create_artifact(
                ArtifactCreate(type="progress", description="Progress", data=percent, flow_run_id=flow_run_id)
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


async def show_result(client: PrefectClient, name: str, ended: Ended, progress: ProgressArtifact) -> None:
    """Attach what came out to the run that this is called in. Never fails: the result is stored already."""
    if ended.status != "Complete" or ended.output_location is None:
        return
    try:
        await progress.update(client, UUID(flow_run.id), 100)
        await _show_result(ended.output_location, ended.result or {})
    except (httpx.HTTPError, PrefectException, TaskError, OSError) as error:
        logger.warning("the result of %s is not shown: %s", name, error)


async def _show_result(location: str, result: dict[str, Any]) -> None:
    await acreate_link_artifact(link=storage.url(location), link_text="the film", description="Result")
    await acreate_markdown_artifact(_table(result), description="How it was made")
    if sheet := result.get("contact_sheet_preview"):
        data = await asyncio.to_thread(_data_url, sheet)
        await acreate_image_artifact(image_url=data, description="Contact sheet; the keyframes are framed")


def _table(result: dict[str, Any]) -> str:
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
    lines += ["", *(f"- {note}" for note in result.get("notes", []))]
    return "\n".join(lines)


def _data_url(key: str) -> str:
    """A small picture inside the artifact itself: the browser may not reach our storage."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.jpg"
        storage.fetch(key, path)
        return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


async def link_to_parent(parent_name: str, parent_flow_run_id: UUID) -> None:
    """Attach to the task run that this is called in whose part it is."""
    await acreate_markdown_artifact(
        f"Part of [{parent_name}]({flow_run_url(parent_flow_run_id)})", description="Orchestrator"
    )
