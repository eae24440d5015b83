"""prefect.yaml, read strictly: Prefect drops a key that it does not know without a word."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from deployments.errors import PlatformError

TAG = "unitask"
VERSION = "{{ $UNITASK_VERSION }}"

TOP = frozenset({"name", "prefect-version", "definitions", "build", "push", "pull", "deployments"})
DEPLOYMENT = frozenset(
    {
        "build", "concurrency_limit", "description", "enforce_parameter_schema", "entrypoint", "flow_name", "name",
        "parameters", "paused", "pull", "push", "schedules", "tags", "triggers", "version", "version_type", "work_pool",
    }
)  # fmt: skip
WORK_POOL = frozenset({"name", "work_queue_name", "job_variables"})
CONCURRENCY = frozenset({"limit", "collision_strategy", "grace_period_seconds"})
SCHEDULE = frozenset(
    {"active", "anchor_date", "cron", "day_or", "interval", "parameters", "replaces", "rrule", "slug", "timezone"}
)


@dataclass(frozen=True)
class Deployment:
    """What the server must have for one entry: its name, where its runs go, and the slugs of its schedules."""

    name: str
    pool: str
    queue: str
    schedules: frozenset[str]


@dataclass(frozen=True)
class Manifest:
    """The entries of prefect.yaml and the digest of everything that registering them depends on."""

    deployments: tuple[Deployment, ...]
    digest: str


def read(root: Path, queues: Mapping[str, Collection[str]]) -> Manifest:
    """Read and check `<root>/prefect.yaml`; `queues` has the queues of each pool.

    Raises `PlatformError` that names every mistake.
    """
    path = root / "prefect.yaml"
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PlatformError(f"`{path}` does not exist; run from a checkout of unitask") from None
    except yaml.YAMLError as error:
        raise PlatformError(f"`{path}` is not YAML: {error}") from None
    if mistakes := list(_mistakes(document, root, queues)):
        raise PlatformError(f"`{path}` has mistakes:\n" + "\n".join(f"- {mistake}" for mistake in mistakes))
    entries = [
        Deployment(
            name=entry["name"],
            pool=entry["work_pool"]["name"],
            queue=entry["work_pool"]["work_queue_name"],
            schedules=frozenset(schedule["slug"] for schedule in entry.get("schedules") or ()),
        )
        for entry in document["deployments"]
    ]
    return Manifest(tuple(entries), _digest(root))


def _mistakes(document: Any, root: Path, queues: Mapping[str, Collection[str]]) -> Iterator[str]:
    if not isinstance(document, dict) or not document.get("deployments"):
        yield "it must be a mapping with `deployments`"
        return
    yield from _unknown("", document, TOP)
    names = [entry.get("name") for entry in document["deployments"]]
    yield from (f"`{name}`: the name is used twice" for name in sorted(set(names), key=str) if names.count(name) > 1)
    for index, entry in enumerate(document["deployments"]):
        where = f"`{entry.get('name', f'deployments[{index}]')}`: "
        yield from (f"{where}{mistake}" for mistake in _mistakes_of(entry, root, queues))


def _mistakes_of(entry: Mapping[str, Any], root: Path, queues: Mapping[str, Collection[str]]) -> Iterator[str]:
    yield from _unknown("", entry, DEPLOYMENT)
    for key in ("name", "description", "entrypoint", "tags", "version", "work_pool"):
        if not entry.get(key):
            yield f"`{key}` is missing"
    if TAG not in (entry.get("tags") or ()):
        yield f"`tags` must hold `{TAG}`, which marks what may be removed when it leaves the file"
    if entry.get("version") != VERSION:
        yield f'`version` must be "{VERSION}", which tells whether anything has changed'
    if not (root / str(entry.get("entrypoint", "")).partition(":")[0]).is_file():
        yield f"`entrypoint`: no file `{entry.get('entrypoint')}`"
    yield from _mistakes_of_pool(entry.get("work_pool") or {}, queues)
    if isinstance(limit := entry.get("concurrency_limit"), dict):
        yield from _unknown("concurrency_limit.", limit, CONCURRENCY)
    for index, schedule in enumerate(entry.get("schedules") or ()):
        yield from _unknown(f"schedules[{index}].", schedule, SCHEDULE)
        if not schedule.get("slug"):
            yield f"`schedules[{index}].slug` is missing, without which every deploy would add the schedule again"


def _mistakes_of_pool(pool: Mapping[str, Any], queues: Mapping[str, Collection[str]]) -> Iterator[str]:
    yield from _unknown("work_pool.", pool, WORK_POOL)
    name, queue = pool.get("name", ""), pool.get("work_queue_name")
    if name not in queues:
        yield f"`work_pool.name` is `{name}`; known are {_listed(queues)}"
    elif queue not in queues[name]:
        yield f"`work_pool.work_queue_name` is `{queue}`; known are {_listed(queues[name])}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _unknown(prefix: str, given: Mapping[str, Any], known: Collection[str]) -> Iterator[str]:
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            yield f"`{prefix}{key}` is not a key of Prefect's" + (f"; did you mean `{close[0]}`?" if close else "")


def _digest(root: Path) -> str:
    """Of all that a registration is made from: the file, the flows, the library that types them, and Prefect."""
    digest = hashlib.sha256(f"{root}\0{version('prefect')}".encode())
    folders = (root / "flows", root / "tasks_lib", root / "deployments")
    files = [root / "prefect.yaml", *(path for folder in folders for path in folder.rglob("*.py"))]
    for path in sorted(files):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
