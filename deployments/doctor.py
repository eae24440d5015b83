"""What `unitask doctor` looks at: whether a task that is created here could run, and what helps where it could not."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import uuid4

import psutil

from db import migrate
from deployments.state import resolve_home
from deployments.status import platform_status
from tasks_lib import accounts, database, storage
from tasks_lib.auth import authenticate
from tasks_lib.availability import list_task_types
from tasks_lib.engines import weights
from tasks_lib.errors import NotFoundError, TaskError, TaskValidationError
from tasks_lib.settings import get_settings
from tasks_lib.types import registry, table

FREE_BYTES = 2 << 30
"""With less room than this, a film may not find a place."""


class Finding(NamedTuple):
    """One thing that was looked at. A `note` keeps nothing from working."""

    what: str
    state: Literal["good", "note", "wrong"]
    text: str


def examine() -> list[Finding]:
    """Look at everything; what cannot be looked at is wrong, with the reason, and the rest is looked at still."""
    findings: list[Finding] = []
    for what, look in LOOKS.items():
        try:
            with database.translated():
                findings += [Finding(what, state, text) for state, text in look()]
        except TaskError as error:
            findings.append(Finding(what, "wrong", str(error)))
            if what == "settings":
                break
    return findings


Found = Iterator[tuple[Literal["good", "note", "wrong"], str]]


def _settings() -> Found:
    get_settings()
    python = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield "good" if fits else "wrong", f"unitask {version('unitask')} on Python {python}; it takes 3.11 to 3.13"


def _home() -> Found:
    home = resolve_home()
    place = home if home.exists() else next(parent for parent in home.parents if parent.exists())
    free = shutil.disk_usage(place).free
    yield "good" if free >= FREE_BYTES else "wrong", f"{home} has {free / 1e9:.1f} GB of room"


def _database() -> Found:
    with database.transaction() as connection:
        release = connection.exec_driver_sql("SHOW server_version").scalar_one()
    yield "good", f"Postgres {release} answers"
    if migrate.is_current(database.get_engine()):
        yield "good", "its schema is of this version"
    else:
        yield "wrong", "its schema is of another version: `unitask up` or `unitask deploy` migrates it"


def _types() -> Found:
    with database.transaction() as connection:
        found = list(table.findings(connection))
    yield from found
    if not found:
        yield "good", f"{len(registry.task_types())} task types, and the table agrees"
    lacking = [each.name for each in list_task_types() if each.works is False and each.is_active and each.has_code]
    if lacking:
        yield "note", f"`unitask types` says what these need to work here: {', '.join(lacking)}"


def _token() -> Found:
    if get_settings().token is None:
        yield "note", 'UNITASK_TOKEN is not set: eval "$(unitask token create NAME)"'
        return
    caller = authenticate()
    if caller.is_service:
        yield "note", "UNITASK_TOKEN is the service key, which may do everything"
        return
    yield "good", f"UNITASK_TOKEN is good for {', '.join(sorted(caller.scopes))}"
    try:
        yield "good", f"its project is {accounts.only_project(caller)}"
    except (NotFoundError, TaskValidationError) as error:
        yield "note", str(error)


def _storage() -> Found:
    key = f"doctor/{uuid4()}"
    with tempfile.TemporaryDirectory(prefix="unitask-") as folder:
        path = Path(folder) / "a"
        path.write_bytes(b"written by unitask doctor")
        storage.put(path, key)
        try:
            storage.fetch(key, Path(folder) / "b")
            same = (Path(folder) / "b").read_bytes() == path.read_bytes()
        finally:
            storage.remove(key)
    yield "good" if same else "wrong", f"{get_settings().resolved_storage_url} keeps what is written"


def _engines() -> Found:
    import av
    import cv2

    yield "good", f"the embedded engine has OpenCV {cv2.__version__} and PyAV {av.__version__}"
    for alias, model in get_settings().models.items():
        place = Path(model.path).expanduser()
        if place.exists():
            yield "good", f"model `{alias}`: {weights.size_on_disk(place) / 1e9:.1f} GB, {model.pipeline}"
        elif model.allow_download:
            yield "note", f"model `{alias}`: {model.path} is fetched from the hub when it is first used"
        else:
            yield "wrong", f"model `{alias}`: there are no weights at {place}"
    memory = psutil.virtual_memory()
    free, total = (amount / 1e9 for amount in (memory.available, memory.total))
    yield "good", f"{psutil.cpu_count()} cores, and {free:.1f} of {total:.1f} GB memory are free"


def _platform() -> Found:
    found = platform_status()
    if stopped := [name for name, process in found["processes"].items() if process["state"] != "running"]:
        yield "wrong", f"`unitask up` starts what does not run: {', '.join(stopped)}"
    yield from ((finding["state"], finding["text"]) for finding in found["findings"] if finding["what"] == "pools")
    if found["ready"]:
        yield "good", f"everything runs; see {found['prefect_ui_url']}"


LOOKS: dict[str, Callable[[], Found]] = {
    "settings": _settings,
    "home": _home,
    "database": _database,
    "task types": _types,
    "token": _token,
    "storage": _storage,
    "engines": _engines,
    "platform": _platform,
}
