"""Bring a Prefect server to what prefect.yaml says: pools, queues and deployments; what people set there stays.

A deployment's version is the digest of everything it was registered from, so whether its code is the current one is
seen from the server alone, in a moment and without importing Prefect.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import sqlalchemy as sa

from db import migrate
from db.engine import create_engine
from deployments.environment import platform_environment
from deployments.errors import PlatformError
from deployments.manifest import read
from deployments.merge import Change
from deployments.registration import Code, Registration
from deployments.state import resolve_home, state
from deployments.supervisor import POOLS, PROJECT
from flows import api
from tasks_lib.auth import sealing
from tasks_lib.database import database_url
from tasks_lib.types import table

QUEUES = {
    "workers": "Flows that claim and execute tasks for hours.",
    "requests": "Short runs that people, callers and schedules ask for.",
}
DESCRIPTIONS = {"gpu": "Engines on the graphics card.", "api": "External APIs, orchestration and requests."}
JOB_TEMPLATE = Path(__file__).with_name("base_job_template.json")


@dataclass(frozen=True)
class Deployed:
    """What a deploy did, or would do: names of deployments, and every change with what was kept because it is set."""

    version: str
    deployments: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return any(change.kind != "kept" for change in self.changes)

    @property
    def removed(self) -> tuple[str, ...]:
        """What is gone, by name."""
        return tuple(change.name for change in self.changes if change.kind == "removed" and change.field is None)

    @property
    def kept(self) -> tuple[Change, ...]:
        """What people set and the file says otherwise."""
        return tuple(change for change in self.changes if change.kind == "kept")


def deploy(home: Path | None = None, root: Path = PROJECT, *, dry_run: bool = False) -> Deployed:
    """Migrate the tasks database and register what `root` declares; safe to repeat, and quick when nothing changed.

    A `dry_run` writes nothing, and answers what would be done. Raises `PlatformError` if prefect.yaml has mistakes,
    the platform does not run or a registration fails.
    """
    manifest = read(root, dict.fromkeys(POOLS, QUEUES))
    home = resolve_home(home)
    run, api_url = state(home), answering(home)
    environment = platform_environment(home, root, api_url) | {"UNITASK_VERSION": manifest.digest}
    if not dry_run:
        sealing.ensure_key_pair(home)
    with _database(run.database_url if run else database_url(), dry_run) as engine, api.client(api_url) as client:
        registration = Registration(client, engine, Code(root, environment), manifest, dry_run)
        template = json.loads(JOB_TEMPLATE.read_text())
        try:
            for pool in POOLS:
                registration.pool(pool, {"description": DESCRIPTIONS[pool], "base_job_template": template})
                for priority, (queue, description) in enumerate(QUEUES.items(), start=1):
                    registration.queue(pool, queue, {"description": description, "priority": priority})
            registration.deployments()
        except httpx.HTTPError as error:
            raise PlatformError(f"Prefect's API at {api_url} failed: {error}") from None
    if registration.refused:
        raise PlatformError("the server refused:\n" + "\n".join(f"- {refused}" for refused in registration.refused))
    return Deployed(manifest.digest, tuple(e.name for e in manifest.deployments), tuple(registration.changes))


def answering(home: Path | None = None) -> str:
    """Return the address of the Prefect API that runs here, or that is set. Raises `PlatformError` if none answers."""
    run = state(home)
    api_url = run.prefect_api_url if run else os.environ.get("PREFECT_API_URL")
    if not api_url:
        raise PlatformError(
            "nothing runs; `unitask up` starts the platform, or set PREFECT_API_URL to a server of yours"
        )
    with api.client(api_url) as client:
        if not api.answers(client, "/health"):
            raise PlatformError(f"Prefect's API at {api_url} does not answer")
    return api_url


@contextmanager
def _database(url: str, dry_run: bool) -> Iterator[sa.Engine]:
    if not dry_run:
        migrate.upgrade(url)
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if not dry_run:
                table.sync(engine)
                # Of two that register at once, one would take for a person's what the other is about to remember.
                connection.execute(sa.text("SELECT unitask.lock_guard('deploy')"))
            yield engine
    finally:
        engine.dispose()
