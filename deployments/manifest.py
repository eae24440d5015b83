"""prefect.yaml, read strictly: Prefect drops a key that it does not know without a word."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from deployments.errors import PlatformError
from deployments.merge import flat

TAG = "unitask"
VERSION = "{{ $UNITASK_VERSION }}"

TOP = frozenset({"name", "prefect-version", "definitions", "build", "push", "pull", "deployments"})
UNFOLLOWED = frozenset({"build", "flow_name", "pull", "push", "triggers", "version_type"})
"""Keys of deployments that are Prefect's, and not followed by `unitask deploy`."""
DEPLOYMENT = frozenset(
    {
        "concurrency_limit", "description", "enforce_parameter_schema", "entrypoint", "name", "parameters", "paused",
        "schedules", "tags", "version", "work_pool",
    }
)  # fmt: skip
WORK_POOL = frozenset({"name", "work_queue_name", "job_variables"})
CONCURRENCY = frozenset({"limit", "collision_strategy", "grace_period_seconds"})
SCHEDULE = frozenset(
    {"active", "anchor_date", "cron", "day_or", "interval", "parameters", "replaces", "rrule", "slug", "timezone"}
)
RHYTHM = SCHEDULE - {"active", "parameters", "replaces", "slug"}
PLAIN = ("description", "enforce_parameter_schema", "paused")


@dataclass(frozen=True)
class Deployment:
    """What one entry says: its fields, and those of each of its schedules by slug, as `deployments.merge` has them."""

    name: str
    entrypoint: str
    fields: dict[str, Any]
    schedules: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Manifest:
    """The entries of prefect.yaml, the steps before each run, and the digest of all that registering depends on."""

    deployments: tuple[Deployment, ...]
    pull_steps: list[dict[str, Any]]
    digest: str


def read(root: Path, queues: Mapping[str, Collection[str]]) -> Manifest:
    """Read and check `<root>/prefect.yaml`; `queues` has the queues of each pool.

    Raises `PlatformError` that names every mistake.
    """
    path = root / "prefect.yaml"
    try:
        # As JSON, which is what the server takes: YAML makes times of what looks like one.
        document = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
    except FileNotFoundError:
        raise PlatformError(f"`{path}` does not exist; run from a checkout of unitask") from None
    except yaml.YAMLError as error:
        raise PlatformError(f"`{path}` is not YAML: {error}") from None
    if mistakes := list(_mistakes(document, root, queues)):
        raise PlatformError(f"`{path}` has mistakes:\n" + "\n".join(f"- {mistake}" for mistake in mistakes))
    return Manifest(tuple(map(_deployment, document["deployments"])), document.get("pull") or [], _digest(root))


def _deployment(entry: Mapping[str, Any]) -> Deployment:
    pool, limit = entry["work_pool"], entry.get("concurrency_limit")
    fields = {key: entry[key] for key in PLAIN if key in entry}
    fields |= {"work_pool_name": pool["name"], "work_queue_name": pool["work_queue_name"]}
    if limit is not None:
        options = {key: value for key, value in limit.items() if key != "limit"} if isinstance(limit, dict) else {}
        fields["concurrency_limit"] = limit["limit"] if isinstance(limit, dict) else limit
        fields |= {"concurrency_options": options} if options else {}
    fields |= flat("tags", entry["tags"]) | flat("parameters", entry.get("parameters"))
    fields |= flat("job_variables", pool.get("job_variables"))
    schedules = {schedule["slug"]: _schedule(schedule) for schedule in entry.get("schedules") or ()}
    return Deployment(entry["name"], entry["entrypoint"], fields, schedules)


def _schedule(schedule: Mapping[str, Any]) -> dict[str, Any]:
    rhythm = {key: schedule[key] for key in sorted(RHYTHM & schedule.keys())}
    fields = {"active": schedule.get("active", True), "schedule": rhythm}
    return fields | flat("parameters", schedule.get("parameters"))


def _mistakes(document: Any, root: Path, queues: Mapping[str, Collection[str]]) -> Iterator[str]:
    if not isinstance(document, dict) or not document.get("deployments"):
        yield "it must be a mapping with `deployments`"
        return
    yield from _unknown("", document, TOP)
    yield from (f"`{key}` must be null: nothing is built or pushed" for key in ("build", "push") if document.get(key))
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
        if "replaces" in schedule:
            yield f"`schedules[{index}].replaces` is not followed by `unitask deploy`: a new slug is a new schedule"
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
        if key in UNFOLLOWED and key not in known:
            yield f"`{prefix}{key}` is not followed by `unitask deploy`"
        elif key not in known:
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
