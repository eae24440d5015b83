"""Bring a Prefect server to what prefect.yaml says: pools, queues and deployments, neither fewer nor more.

A deployment's version is the digest of everything it was registered from, so whether there is anything to do is seen
from the server alone, in a moment and without importing Prefect.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from db import migrate
from db.engine import create_engine
from deployments.environment import platform_environment
from deployments.errors import PlatformError
from deployments.manifest import TAG, Deployment, Manifest, read
from deployments.state import resolve_home, state
from deployments.supervisor import POOLS, PROJECT
from flows import api
from tasks_lib.auth import sealing
from tasks_lib.database import database_url
from tasks_lib.types import registry

QUEUES = {
    "workers": "Flows that claim and execute tasks for hours.",
    "requests": "Short runs that people, callers and schedules ask for.",
}
DESCRIPTIONS = {"gpu": "Engines on the graphics card.", "api": "External APIs, orchestration and requests."}
JOB_TEMPLATE = Path(__file__).with_name("base_job_template.json")
REGISTER_SECONDS = 300


@dataclass(frozen=True)
class Deployed:
    """What a deploy did: whether anything was registered, and the names that it removed."""

    version: str
    changed: bool
    deployments: tuple[str, ...]
    removed: tuple[str, ...]


def deploy(home: Path | None = None, root: Path = PROJECT) -> Deployed:
    """Migrate the tasks database and register what `root` declares; safe to repeat, and quick when nothing changed.

    Raises `PlatformError` if prefect.yaml has mistakes, the platform does not run or a registration fails.
    """
    manifest = read(root, dict.fromkeys(POOLS, QUEUES))
    home = resolve_home(home)
    sealing.ensure_key_pair(home)
    run = state(home)
    api_url = _answering(run.prefect_api_url if run else os.environ.get("PREFECT_API_URL"))
    _migrate(run.database_url if run else database_url())
    names = tuple(entry.name for entry in manifest.deployments)
    with api.client(api_url) as client:
        try:
            if not (differences := _differences(client, manifest)):
                return Deployed(manifest.digest, False, names, ())
            _ensure_pools(client)
            _register(home, root, api_url, manifest)
            removed = _prune(client, manifest)
            differences = _differences(client, manifest)
        except httpx.HTTPError as error:
            raise PlatformError(f"Prefect's API at {api_url} failed: {error}") from None
    if differences:
        raise PlatformError("after registering, the server still differs:\n" + "\n".join(f"- {d}" for d in differences))
    return Deployed(manifest.digest, True, names, removed)


def _answering(api_url: str | None) -> str:
    if not api_url:
        raise PlatformError(
            "nothing runs; `unitask up` starts the platform, or set PREFECT_API_URL to a server of yours"
        )
    with api.client(api_url) as client:
        if not api.answers(client, "/health"):
            raise PlatformError(f"Prefect's API at {api_url} does not answer")
    return api_url


def _migrate(url: str) -> None:
    migrate.upgrade(url)
    engine = create_engine(url)
    try:
        registry.sync(engine)
    finally:
        engine.dispose()


def _ours(client: httpx.Client) -> list[dict[str, Any]]:
    body = {"deployments": {"tags": {"all_": [TAG]}}}
    found: list[dict[str, Any]] = client.post("/deployments/filter", json=body).raise_for_status().json()
    return found


def _differences(client: httpx.Client, manifest: Manifest) -> list[str]:
    """In what the server differs from the manifest, in words."""
    found = {(row["name"], row["version"]): row for row in _ours(client)}
    wanted = {(entry.name, manifest.digest): entry for entry in manifest.deployments}
    differences = [f"`{name}` of version {digest} should not be there" for name, digest in found.keys() - wanted.keys()]
    for key, entry in wanted.items():
        if (row := found.get(key)) is None:
            differences.append(f"`{entry.name}` is not there")
        elif _shape(row) != entry:
            differences.append(f"`{entry.name}` is {_shape(row)} and should be {entry}")
    return differences


def _shape(row: dict[str, Any]) -> Deployment:
    slugs = frozenset(str(schedule["slug"]) for schedule in row["schedules"])
    return Deployment(row["name"], row["work_pool_name"], row["work_queue_name"], slugs)


def _ensure_pools(client: httpx.Client) -> None:
    template = json.loads(JOB_TEMPLATE.read_text())
    for pool in POOLS:
        body = {"description": DESCRIPTIONS[pool], "base_job_template": template}
        # The pool may be there already: workers make theirs when they start.
        created = client.post("/work_pools/", json={"name": pool, "type": "process"} | body)
        if created.status_code == httpx.codes.CONFLICT:
            client.patch(f"/work_pools/{pool}", json=body).raise_for_status()
        else:
            created.raise_for_status()
        for priority, (queue, description) in enumerate(QUEUES.items(), start=1):
            body = {"description": description, "priority": priority}
            created = client.post(f"/work_pools/{pool}/queues", json={"name": queue} | body)
            if created.status_code == httpx.codes.CONFLICT:
                client.patch(f"/work_pools/{pool}/queues/{queue}", json=body).raise_for_status()
            else:
                created.raise_for_status()


def _register(home: Path, root: Path, api_url: str, manifest: Manifest) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=root,
        env=platform_environment(home, root, api_url) | {"UNITASK_VERSION": manifest.digest},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=REGISTER_SECONDS,
        check=False,
    )
    if done.returncode:
        raise PlatformError(f"`prefect deploy --all` failed:\n{done.stdout.strip()[-4000:]}")


def _prune(client: httpx.Client, manifest: Manifest) -> tuple[str, ...]:
    """Remove our deployments, and schedules of the others, that are not in the file; their names are returned."""
    removed = []
    schedules = {entry.name: entry.schedules for entry in manifest.deployments}
    for row in _ours(client):
        # By version too: an entry whose flow got another name is registered anew beside the old one.
        if row["name"] not in schedules or row["version"] != manifest.digest:
            client.delete(f"/deployments/{row['id']}").raise_for_status()
            removed.append(str(row["name"]))
            continue
        for schedule in row["schedules"]:
            if schedule["slug"] not in schedules[row["name"]]:
                client.delete(f"/deployments/{row['id']}/schedules/{schedule['id']}").raise_for_status()
                removed.append(f"{row['name']}/{schedule['slug']}")
    return tuple(removed)
