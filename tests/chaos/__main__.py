"""Mixed work on a whole platform while processes are killed, servers restart, and people click in Prefect at random.

`python -m tests.chaos --seconds 600 [--seed N]`. The seed decides every move; it is printed, and repeats them. At the
end everybody leaves off, and then rows, runs, nodes, books and schedules must say the same: see truth.py.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import psutil

from db import embedded
from deployments import processes, supervisor
from deployments.deploy import deploy
from deployments.state import state
from flows import api, fleet
from tasks_lib import cancel_batch, cancel_task, create_tasks, create_travel_between_images_task, database, retry_task
from tasks_lib.errors import ConflictError, DatabaseError
from tasks_lib.settings import get_settings
from tasks_lib.templates import create_template
from tests.chaos import truth
from tests.chaos.people import People
from tests.conftest import Owner, make_owner
from tests.crash.test_kills import TRAVEL, make_images
from tests.flows.conftest import SETTINGS, Platform

T = TypeVar("T")
MOVES = {
    "create": 6,
    "create_broken": 1,
    "create_batch": 1,
    "trigger": 3,
    "cancel": 2,
    "cancel_batch": 1,
    "retry": 2,
    "kill": 3,
    "restart_postgres": 1,
    "restart_prefect": 1,
    "cancel_run": 3,
    "retry_run": 3,
    "delete_run": 1,
    "pause": 2,
    "resume": 3,
    "limit": 1,
    "change_schedule": 2,
}
OF_PEOPLE = {"cancel_run", "retry_run", "delete_run", "pause", "resume", "limit", "change_schedule"}
PAUSE_SECONDS = 3.0
END_SECONDS = 600
LOOK_SECONDS = 2.0


class Chaos:
    """The moves that disturb a platform, and what must be true afterwards."""

    def __init__(self, seed: int, home: Path, owner: Owner, people: People, images: list[str]) -> None:
        self.rng = random.Random(seed)
        self.home = home
        self.owner = owner
        self.people = people
        self.images = images
        self.travels: list[UUID] = []
        self.moves: Counter[str] = Counter()

    def move(self) -> None:
        """Do something, as the seed says."""
        name = self.rng.choices(list(MOVES), list(MOVES.values()))[0]
        self.moves[name] += 1
        getattr(self.people if name in OF_PEOPLE else self, name)()

    def create(self, images: list[str] | None = None) -> None:
        count, chained = self.rng.randint(2, 4), self.rng.random() < 0.3
        key = f"travel {len(self.travels)}"
        made = persist(
            lambda: create_travel_between_images_task(
                project_id=self.owner.project_id,
                image_urls=images or self.images[:count],
                independent_segments=not chained,
                idempotency_key=key,
                **TRAVEL,
            )
        )
        self.travels.append(made.task_id)

    def create_broken(self) -> None:
        self.create([self.images[0], "https://nobody.invalid/picture.jpg"])

    def create_batch(self) -> None:
        requests = [
            {
                "task_type": "travel_orchestrator",
                "params": {**TRAVEL, "image_urls": self.images[:2]},
                "project_id": self.owner.project_id,
                "idempotency_key": f"travel {len(self.travels) + i}",
            }
            for i in range(self.rng.randint(2, 4))
        ]
        self.travels += persist(lambda: [answer.task_id for answer in create_tasks(requests)])

    def trigger(self) -> None:
        images = self.images[: self.rng.randint(2, 3)]
        request = {"project_id": str(self.owner.project_id), "image_urls": images, **TRAVEL}
        self.people.trigger({"request": request})

    def cancel_batch(self) -> None:
        self._change(cancel_batch)

    def cancel(self) -> None:
        self._change(cancel_task)

    def retry(self) -> None:
        self._change(retry_task)

    def _change(self, change: Callable[[UUID], object]) -> None:
        at = self.rng.random()
        if self.travels:
            with suppress(ConflictError):
                persist(lambda: change(self.travels[int(at * len(self.travels))]))

    def kill(self) -> None:
        """End the process of a flow run: a worker's, an engine's, a request's."""
        at = self.rng.random()
        found = [process for process in processes.marked(self.home) if _has_flow_run(process)]
        if found:
            with suppress(psutil.NoSuchProcess):
                sorted(found, key=lambda process: process.pid)[int(at * len(found))].kill()

    def restart_postgres(self) -> None:
        embedded.stop(self.home)
        time.sleep(self.rng.uniform(0, 2))
        embedded.start(self.home)

    def restart_prefect(self) -> None:
        run = state(self.home)
        if run and "server" in run.pids:
            with suppress(ProcessLookupError):
                os.kill(run.pids["server"], signal.SIGKILL)

    def rest(self) -> None:
        """Undisturbed, everything ends, and everything agrees."""
        self.people.end_disturbances()
        wait(lambda: [f"{left} tasks"] if (left := persist(truth.open_tasks)) else [], "have not ended")
        # What it does every two minutes, now.
        maintenance = self.people.deployment("maintenance/maintenance")["id"]
        self.people.call("POST", f"/deployments/{maintenance}/create_flow_run", {})
        wait(lambda: persist(lambda: truth.disagreements(self.people)), "disagree")


def _has_flow_run(process: psutil.Process) -> bool:
    try:
        return processes.FLOW_RUN in process.environ()
    except psutil.Error:
        return False


def wait(left: Callable[[], list[str]], what: str) -> None:
    """Wait until nothing is left of what should not be."""
    end = time.monotonic() + END_SECONDS
    while found := left():
        assert time.monotonic() < end, f"{what}:\n" + "\n".join(found)
        time.sleep(LOOK_SECONDS)


def persist(function: Callable[[], T]) -> T:
    """Call again until Postgres is there; every call that the moves make may be repeated."""
    while True:
        try:
            return function()
        except DatabaseError as error:
            if not database.is_outage(error):
                raise
            time.sleep(0.5)


def run(seed: int, seconds: float) -> None:
    """One run on a platform of its own."""
    # Not under a folder that only its owner may enter: Postgres runs as another user.
    home = Path(tempfile.mkdtemp(prefix="unitask-chaos-"))
    set_environment(home)
    ended = False
    try:
        platform = supervisor.up(home)
        deploy(home)
        owner = make_owner()
        set_environment(home, UNITASK_TOKEN=owner.token)
        with api.client(platform.prefect_api_url) as client:
            Platform(platform, client, owner, home).save_token()
            images = make_images(owner, home, 4)
            create_template("upscaled", "image_upscale", {}, project_id=owner.project_id, open_fields=["image_url"])
            batch = {
                "project_id": str(owner.project_id), "template": "upscaled", "items": [{"image_url": images[0]}]
            }  # fmt: skip
            people = People(client, random.Random(seed + 1), batch)
            chaos = Chaos(seed, home, owner, people, images)
            fleet.ensure_workers(minimum={"gpu": 1, "api": 1}, api_url=platform.prefect_api_url)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                chaos.move()
                time.sleep(chaos.rng.uniform(0, PAUSE_SECONDS))
            print(f"moves {dict(chaos.moves)}", flush=True)
            chaos.rest()
            tasks = truth.check_rows(owner.user_id, chaos.travels, people)
            print(f"seed {seed}: {dict(chaos.moves)}; tasks {tasks}")
            ended = True
    finally:
        supervisor.down(home)
        if ended:
            shutil.rmtree(home)
        else:
            print(f"the platform's logs and database are left in {home}", file=sys.stderr)


def set_environment(home: Path, **more: str) -> None:
    """Settings for this process and those that it starts: short intervals, everything under `home`."""
    for name in ("UNITASK_DATABASE_URL", "UNITASK_STORAGE_URL", "PREFECT_API_URL"):
        os.environ.pop(name, None)
    os.environ.update(SETTINGS)
    os.environ.update(UNITASK_HOME=str(home), UNITASK_GPU_WORKERS="2", **more)
    get_settings.cache_clear()


def main() -> None:
    """Read the command line, run, and print the seed first: it is what a failure needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    run(given.seed, given.seconds)


if __name__ == "__main__":
    main()
