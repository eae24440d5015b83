"""Files on their way to a provider and back: inputs as addresses that it can read, results as checked files of ours."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks_lib import storage
from tasks_lib.errors import TaskError, TaskValidationError, reword
from tasks_lib.media.images import load_image, probe_image
from tasks_lib.media.sheet import save_poster
from tasks_lib.media.stitch import Part, stitch
from tasks_lib.media.video import check_length, probe
from tasks_lib.params.asked import merged_notes
from tasks_lib.providers.base import Work
from tasks_lib.providers.clients import Client
from tasks_lib.providers.network import ResultGone
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.types.registry import get_task_type

SIGNED_SECONDS = 3600
# The largest input that is sent inside a request, where the storage cannot sign a URL for it.
INLINE_BYTES = 8 << 20
IMAGE_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}


def marked(work: Work) -> Work:
    """The same work, with the names of the inputs that hold files of ours."""
    return replace(work, files=frozenset(name for name, value in work.input.items() if _holds_ours(value)))


def _holds_ours(value: Any) -> bool:
    return any(map(_holds_ours, value)) if isinstance(value, list) else str(value).startswith(storage.SCHEME)


async def reachable(work: Work, project_id: UUID, client: Client) -> Work:
    """The same work with every file of ours as something that the provider can read.

    That is a signed URL where the storage can sign, else the bytes themselves, or an upload where they are too many.
    Raises `TaskValidationError` where the provider takes no uploads either.
    """
    given = {name: await _reachable(value, project_id, client) for name, value in work.input.items()}
    return replace(work, input=given)


async def _reachable(value: Any, project_id: UUID, client: Client) -> Any:
    if isinstance(value, list):
        return [await _reachable(item, project_id, client) for item in value]
    if not _holds_ours(value):
        return value
    try:
        return await _sent_or_signed(storage.key_of(value, project_id), client)
    except TaskError as error:
        raise reword(error, f"`{value}`: {error}") from None


async def _sent_or_signed(key: str, client: Client) -> str:
    if signed := storage.signed_url(key, SIGNED_SECONDS):
        return signed
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / Path(key).name
        await asyncio.to_thread(storage.fetch, key, copy)
        return await _sent(copy, client)


async def _sent(path: Path, client: Client) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    sent = _inline(path, kind) or await client.adapter.upload(client.http, path, kind)
    if sent is None:
        raise TaskValidationError(
            f"an input has more than the {INLINE_BYTES} bytes that can be sent to "
            f"{client.adapter.name} from this storage: give it as an http(s) URL, or keep media where URLs can be "
            "signed (UNITASK_STORAGE_URL)"
        )
    return sent


def _inline(path: Path, kind: str) -> str | None:
    if path.stat().st_size > INLINE_BYTES:
        return None
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def result_url(output: Any) -> str:
    """Where a model's answer says that its file is: the first `url` in it, or the answer itself."""
    found = _first_url(output)
    if found is None:
        raise ResultGone("the provider's answer names no file")
    return found


def _first_url(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value.startswith(("https://", "http://")) else None
    if isinstance(value, Mapping):
        value = [value[name] for name in ("video", "image", "images", "videos", "url", "output") if name in value]
    if isinstance(value, list):
        return next((url for item in value if (url := _first_url(item))), None)
    return None


def check(path: Path, content_type: str | None) -> tuple[str, dict[str, Any]]:
    """What a fetched result is by its content, whatever its name and headers say: its suffix and its facts.

    Raises `ResultGone` for anything but a whole picture or a readable clip, as the task type wants it, within the
    bounds that inputs have.
    """
    try:
        if content_type == "video":
            check_length(path)
            return ".mp4" if _is_mp4(path) else ".webm", probe(path).as_dict()
        return _check_image(path)
    except TaskError:
        with path.open("rb") as file:
            start = file.read(16)
        raise ResultGone(f"the result is no {content_type or 'image'}: it begins with {start!r}") from None


def _is_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] == b"ftyp"


def _check_image(path: Path) -> tuple[str, dict[str, Any]]:
    facts = probe_image(path)
    # Decoded too: a body that was cut has a whole header.
    load_image(path, 64, 64)
    return IMAGE_SUFFIXES[facts.format], facts.as_dict()


@dataclass(frozen=True)
class Fetched:
    """A job's result at `path`, what it is by its content, and what is told about the job."""

    path: Path
    suffix: str
    facts: dict[str, Any]
    told: dict[str, Any]


def keep(task: ClaimedTask, parts: list[Fetched], notes: tuple[str, ...]) -> Output:
    """Store a task's file under our own key; several parts are one film."""
    content_type = get_task_type(task.task_type).content_type
    path, suffix, facts = parts[0].path, parts[0].suffix, parts[0].facts
    if len(parts) > 1:
        path = path.with_suffix(".film.mp4")
        stitch(
            [Part.of(part.path) for part in parts],
            [0] * (len(parts) - 1),
            path,
            probe(parts[0].path).fps,
            mode="independent",
            on_progress=lambda *_: None,
            cancelled=lambda: False,
        )
        suffix, facts = check(path, content_type)
    key = storage.output_key(task.project_id, task.id, task.lease_id, f"result{suffix}")
    storage.put(path, key)
    shown = {}
    if content_type == "video":
        shown["poster"] = storage.output_key(task.project_id, task.id, task.lease_id, "poster.jpg")
        storage.put(save_poster(path, path.with_suffix(".jpg")), shown["poster"])
    provenance = {
        "engine": parts[0].told["name"],
        "method": "external",
        "model": {"id": parts[0].told["model"]},
        "notes": list(notes),
    }
    said = merged_notes([*(task.asked["notes"] if task.asked else ()), *notes])
    told = {"provenance": provenance, "provider_jobs": [part.told for part in parts], "notes": said}
    return Output(key, {"media": facts, **shown, **told})
