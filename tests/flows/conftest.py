"""One real platform a run: Postgres, Prefect's server, its workers and our worker flows, as `unitask up` makes them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from PIL import Image

from db import embedded, tables
from deployments import supervisor
from deployments.deploy import deploy
from deployments.state import RunState
from flows import api, fleet
from tasks_lib import create_travel_between_images_task, database, upload_media
from tasks_lib.providers.simulator import Simulator
from tasks_lib.settings import get_settings
from tests.conftest import Owner, forget_engine, make_owner

# Short enough that a rescue fits into a test.
SETTINGS = {
    "UNITASK_ALLOW_PRIVATE_URLS": "true",  # the simulated provider's results lie at one
    "UNITASK_CREATE_CALLS_PER_MINUTE": "100000",  # tests are busier than people
    "UNITASK_LEASE_SECONDS": "6",
    "UNITASK_HEARTBEAT_SECONDS": "1",
    "UNITASK_POLL_SECONDS": "1",
    # Pictures may be asked for here: a model is described, though its weights are not there.
    "UNITASK_MODELS": '{"described": {"pipeline": "ZImagePipeline", "path": "nowhere"}}',
    "UNITASK_PROVIDERS": '{"single_image": "engine:described"}',
}
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
SECRETS = {name: secrets.token_hex(24) for name in ("SERVICE_KEY", "JWT_SECRET", "REPLICATE_TOKEN")}
"""Settings that nobody may see; tests look for them in what the platform has written."""


@dataclass(frozen=True)
class Platform:
    """The running platform, a client of Prefect's API, and a user."""

    run: RunState
    api: httpx.Client
    owner: Owner
    folder: Path

    def post(self, path: str, body: Any) -> Any:
        return self.api.post(path, json=body).raise_for_status().json()

    def get(self, path: str) -> Any:
        return self.api.get(path).raise_for_status().json()

    def save_secret(self, name: str, value: str) -> None:
        """Keep a text in a Secret block of Prefect's, as a person does in the UI."""
        kind = self.get("/block_types/slug/secret")["id"]
        (schema, *_) = self.post("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
        block = {"name": name, "data": {"value": value}, "block_type_id": kind, "block_schema_id": schema["id"]}
        self.post("/block_documents/", block)

    def save_token(self) -> None:
        """Keep the owner's token where runs of deployments look for it."""
        kept = self.api.get("/block_types/slug/secret/block_documents/name/unitask-token")
        if kept.is_success:
            body = {"data": {"value": self.owner.token}, "merge_existing_data": False}
            self.api.patch(f"/block_documents/{kept.json()['id']}", json=body).raise_for_status()
        else:
            self.save_secret("unitask-token", self.owner.token)

    def start_deployment(self, deployment: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a run of a deployment, `flow/name`."""
        found = self.get(f"/deployments/name/{deployment}")["id"]
        return dict(self.post(f"/deployments/{found}/create_flow_run", {"parameters": parameters or {}}))

    def run_deployment(self, deployment: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Run a deployment, `flow/name`, and give its run when it has ended."""
        found = self.get(f"/deployments/name/{deployment}")["id"]
        run = self.post(f"/deployments/{found}/create_flow_run", {"parameters": parameters})
        return dict(until(lambda: (r := self.get(f"/flow_runs/{run['id']}"))["state_type"] in ENDED and r))

    def graph(self, flow_run_id: UUID | str) -> dict[str, dict[str, Any]]:
        """A run's nodes by id, as the UI draws them."""
        return dict(self.get(f"/flow_runs/{flow_run_id}/graph-v2")["nodes"])

    def run_named(self, name: str) -> dict[str, Any]:
        """The newest flow run of that name."""
        runs = self.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC"})
        return dict(runs[0])

    def worker_pid(self, run_type: str) -> int:
        """The process of the pool's newest live worker flow."""
        w = tables.workers
        with database.transaction() as connection:
            return (
                connection.execute(
                    sa.select(w.c.pid)
                    .where(w.c.run_type == run_type, w.c.stopped_at.is_(None))
                    .order_by(w.c.started_at.desc())
                )
                .scalars()
                .first()
                or 0
            )

    def images(self, count: int, size: int = 64) -> list[str]:
        """Uploaded pictures, which do not show one scene: a quick cross-fade lies between them."""
        return self._upload(self.pictures(count, size))

    def views(self, count: int, size: int) -> list[str]:
        """Uploaded pictures of one scene: what lies between them takes a third of a second a frame at 2048."""
        spots = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
        return self._upload(self._turned("views", Image.fromarray(spots).resize((size, size)), 3, count, size))

    def pictures(self, count: int, size: int = 64) -> list[Path]:
        """Files of gradients that turn a little from one to the next."""
        return self._turned("gradients", Image.linear_gradient("L"), 20, count, size)

    def _turned(self, name: str, picture: Image.Image, degrees: float, count: int, size: int) -> list[Path]:
        paths = [self.folder / f"{name}-{count}-{size}-{i}.png" for i in range(count)]
        for i, path in enumerate(paths):
            picture.rotate(degrees * i).resize((size, size)).convert("RGB").save(path)
        return paths

    def _upload(self, paths: list[Path]) -> list[str]:
        return [upload_media(path, project_id=self.owner.project_id) for path in paths]

    def create(self, count: int = 4, size: int = 64, *, slow: bool = False, **params: Any) -> UUID:
        """A travel through `count` small pictures."""
        return create_travel_between_images_task(self.request(count, size, slow=slow, **params)).task_id

    def request(self, count: int = 4, size: int = 64, *, slow: bool = False, **params: Any) -> dict[str, Any]:
        """What such a travel asks for."""
        return {
            "project_id": str(self.owner.project_id),
            "image_urls": self.views(count, size) if slow else self.images(count, size),
            "base_prompts": ["turning"],
            "segment_frames": 5,
            "resolution": f"{size}x{size}",
            **params,
        }


@pytest.fixture(scope="package")
def provider() -> Iterator[Simulator]:
    """The external API that the platform's api worker calls."""
    with Simulator().serving() as simulator:
        yield simulator


@pytest.fixture(scope="package")
def platform(provider: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform, for all tests of this folder: it takes half a minute to start."""
    patch = pytest.MonkeyPatch()
    # Not pytest's own folder: a second session beside this one would close it to the server's user.
    home = Path(tempfile.mkdtemp(prefix="unitask-platform-"))
    for name in ("UNITASK_DATABASE_URL", "UNITASK_STORAGE_URL", "UNITASK_TOKEN", "PREFECT_API_URL"):
        patch.delenv(name, raising=False)
    hidden = {f"UNITASK_{name}": value for name, value in SECRETS.items()}
    own = {
        "UNITASK_HOME": str(home),
        "UNITASK_REPLICATE_URL": provider.url,
        "UNITASK_REPLICATE_CONCURRENCY": "2",
        "UNITASK_WORKER_DATABASE_URL": _for_workers(embedded.start(home)),
    }
    for name, value in {**SETTINGS, **hidden, **own}.items():
        patch.setenv(name, value)
    _forget_settings()
    try:
        run = supervisor.up(home)
        deploy(home)
        owner = make_owner("creator")
        patch.setenv("UNITASK_TOKEN", owner.token)
        get_settings.cache_clear()
        fleet.ensure_workers(minimum={"gpu": 1, "api": 1}, api_url=run.prefect_api_url)
        with api.client(run.prefect_api_url) as client:
            yield Platform(run, client, owner, tmp_path_factory.mktemp("pictures"))
    finally:
        forget_engine()
        supervisor.down(home)
        shutil.rmtree(home)
        patch.undo()
        _forget_settings()


def _for_workers(server_url: str) -> str:
    """The tasks database with the rights of workers alone."""
    url = sa.make_url(server_url).set(database=database.DATABASE_NAME)
    return url.update_query_dict({"options": "-crole=unitask_worker"}).render_as_string(False)


def _forget_settings() -> None:
    get_settings.cache_clear()
    forget_engine()


def until(condition: Callable[[], Any], seconds: float = 120, what: str = "it") -> Any:
    """Wait for a condition, and give what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not happen in {seconds} seconds"
        time.sleep(0.2)
    return found


def run_prefect(platform: Platform, code: str) -> Any:
    """Run Python that uses Prefect's client, in a process whose settings point at the platform; its JSON answer."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PREFECT_API_URL": platform.run.prefect_api_url, "PREFECT_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def alive(pid: int) -> bool:
    """Whether a process runs."""
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
