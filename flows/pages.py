"""What a run says about its task, as a page of Markdown: pictures, words, settings, links. Pure, but for the pictures.

Whatever people wrote is shown as code: their Markdown would be drawn, and a picture in it would be fetched by everybody
who looks. Addresses are shown without query and credentials.
"""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from tasks_lib import storage
from tasks_lib.errors import TaskError
from tasks_lib.masking import mask
from tasks_lib.media.images import thumbnail

SIDE = 128
PICTURES = 6
PROMPTS = 12
SETTINGS = 24
LONGEST = 300
APART = frozenset({"tool_type", "run_id", "task_id", "timeline", "shot_id", "project_id", "placement"})
"""What programs note in a task's parameters, and nobody has set."""


def key_of(task_type: str, task_id: UUID | str, what: str = "") -> str:
    """Return the key of an artifact of a task: the same for each of its runs, so that Prefect keeps its versions."""
    return re.sub(r"[^a-z0-9]+", "-", f"{task_type}-{str(task_id)[:8]}-{what}".lower()).strip("-")


def page_of(task_id: UUID, project_id: UUID, params: Mapping[str, Any], links: Sequence[str] = ()) -> str:
    """Return the page about a task."""
    given = {**params, **params.get("orchestrator_details", {})}
    given = {name: value for name, value in given.items() if name not in APART | {"orchestrator_details"}}
    media = [value for _, value in _texts(given) if value.startswith((storage.SCHEME, "http://", "https://"))]
    parts = [_pictures(media, project_id), _addresses(media), _prompts(given), _settings(given)]
    parts += [*links, f"`unitask show {task_id}`"]
    return "\n\n".join(part for part in parts if part)


def code(text: str, limit: int = LONGEST) -> str:
    """Return a text of somebody's as code, on one line, so that nothing in it is drawn."""
    line = " ".join(mask(text).replace("`", "'").replace("|", "\\|").split())
    return f"`{line if len(line) <= limit else line[:limit] + ' …'}`"


def data_url(path: Path, side: int) -> str:
    """Return a small picture inside an address: the browser may not reach our storage. Raises `TaskError`."""
    return "data:image/jpeg;base64," + base64.b64encode(thumbnail(path, side)).decode()


def _pictures(media: Sequence[str], project_id: UUID) -> str:
    shown = []
    with tempfile.TemporaryDirectory(prefix="unitask-") as folder:
        for reference in [text for text in dict.fromkeys(media) if text.startswith(storage.SCHEME)][:PICTURES]:
            path = Path(folder) / "picture"
            try:
                storage.fetch(storage.key_of(reference, project_id), path)
                shown.append(f"![]({data_url(path, SIDE)})")
            except (TaskError, OSError):
                continue  # a clip, or gone by now: its address is listed
    return " ".join(shown)


def _addresses(media: Sequence[str]) -> str:
    counted = list(dict.fromkeys(media))
    lines = [f"- {code(_bare(address))}" for address in counted[:PICTURES]]
    more = f"\n- and {len(counted) - PICTURES} more" if len(counted) > PICTURES else ""
    return "**Made from**\n\n" + "\n".join(lines) + more if lines else ""


def _bare(address: str) -> str:
    """Return an address without what may be a credential in it."""
    if address.startswith(storage.SCHEME):
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}{parts.path}" + ("?…" if parts.query else "")


def _prompts(given: Mapping[str, Any]) -> str:
    said = [(name, text) for name, text in _texts(given) if "prompt" in name and text.strip()]
    lines = [f"- {name}: {code(text)}" for name, text in said[:PROMPTS]]
    more = f"\n- and {len(said) - PROMPTS} more" if len(said) > PROMPTS else ""
    return "**Prompts**\n\n" + "\n".join(lines) + more if lines else ""


def _settings(given: Mapping[str, Any]) -> str:
    rows = [
        f"| {name} | {code(str(value), 80)} |"
        for name, value in given.items()
        if isinstance(value, str | int | float)
        and "prompt" not in name
        and not str(value).startswith((storage.SCHEME, "http"))
        and value != ""
    ]
    return "\n".join(["| setting | value |", "|---|---|", *rows[:SETTINGS]]) if rows else ""


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a request, each with the path of its field."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{name}[{index}]")
