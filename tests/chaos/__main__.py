"""Mixed work while workers are killed and Postgres is restarted at random: nothing lost, nothing doubled, nobody owes.

`python -m tests.chaos --seconds 600 [--seed N]`. The seed decides every move; it is printed, and repeats them.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from db import embedded, tables
from db.migrate import upgrade
from tasks_lib import (
    cancel_batch,
    cancel_task,
    create_tasks,
    create_travel_between_images_task,
    database,
    retry_task,
)
from tasks_lib.errors import ConflictError, DatabaseError
from tasks_lib.settings import get_settings
from tasks_lib.types import table
from tests.conftest import Owner, make_owner
from tests.crash.test_kills import ROOT, TRAVEL, make_images

T = TypeVar("T")
POOLS = ("api", "gpu", "gpu")
MOVES = {
    "create": 7,
    "create_broken": 1,
    "create_batch": 1,
    "cancel": 2,
    "cancel_batch": 1,
    "retry": 2,
    "kill": 3,
    "restart_postgres": 1,
}
PAUSE_SECONDS = 2.0
END_SECONDS = 600


class Chaos:
    """Workers in processes, the moves that disturb them, and what must be true afterwards."""

    def __init__(self, seed: int, home: Path, owner: Owner, images: list[str]) -> None:
        self.rng = random.Random(seed)
        self.home = home
        self.owner = owner
        self.images = images
        self.travels: list[UUID] = []
        self.moves: Counter[str] = Counter()
        self.workers = [self.start_worker(pool) for pool in POOLS]

    def start_worker(self, pool: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.crash.process", "work", pool], cwd=ROOT)

    def move(self) -> None:
        """Do something, as the seed says."""
        name = self.rng.choices(list(MOVES), list(MOVES.values()))[0]
        self.moves[name] += 1
        getattr(self, name)()

    def create(self, images: list[str] | None = None) -> None:
        count = self.rng.randint(2, 4)
        chained = self.rng.random() < 0.3
        key = f"travel {len(self.travels)}"
        self.travels.append(
            persist(
                lambda: (
                    create_travel_between_images_task(
                        project_id=self.owner.project_id,
                        image_urls=images or self.images[:count],
                        independent_segments=not chained,
                        idempotency_key=key,
                        **TRAVEL,
                    ).task_id
                )
            )
        )

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

    def cancel_batch(self) -> None:
        if self.travels:
            travel = self.rng.choice(self.travels)
            persist(lambda: cancel_batch(travel))

    def cancel(self) -> None:
        if self.travels:
            travel = self.rng.choice(self.travels)
            persist(lambda: cancel_task(travel))

    def retry(self) -> None:
        if self.travels:
            travel = self.rng.choice(self.travels)
            try:
                persist(lambda: retry_task(travel))
            except ConflictError:
                return

    def kill(self) -> None:
        index = self.rng.randrange(len(self.workers))
        self.workers[index].kill()
        self.workers[index].wait()
        self.workers[index] = self.start_worker(POOLS[index])

    def restart_postgres(self) -> None:
        embedded.stop(self.home)
        time.sleep(self.rng.uniform(0, 2))
        embedded.start(self.home)

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()

    def wait_until_all_have_ended(self) -> None:
        """Undisturbed, everything ends."""
        end = time.monotonic() + END_SECONDS
        while left := persist(open_tasks):
            assert time.monotonic() < end, f"{left} tasks have not ended"
            time.sleep(0.5)

    def check(self) -> dict[str, int]:
        """Nothing lost, no output twice, the ledger level. Answers how the tasks ended."""
        t, v = tables.tasks, tables.generation_variants
        with database.transaction() as connection:
            roots = connection.scalars(sa.select(t.c.id).where(t.c.parent_task_id.is_(None))).all()
            assert sorted(roots) == sorted(self.travels), "a travel is lost or was made twice"
            outputs = Counter(connection.scalars(sa.select(v.c.task_id)))
            leaves = connection.execute(sa.select(t.c.id, t.c.status).where(t.c.parent_task_id.is_not(None))).all()
            assert outputs == Counter(row.id for row in leaves if row.status == "Complete"), (
                "an output is lost or twice there"
            )
            assert database.call_in(connection, "ledger_faults") == []
            total = connection.execute(sa.select(sa.func.sum(tables.credit_ledger.c.amount))).scalar_one()
            assert total == connection.execute(sa.select(sa.func.unitask.balance(self.owner.user_id))).scalar_one()
            ends = connection.execute(sa.select(t.c.status, sa.func.count()).group_by(t.c.status))
            return {row[0]: row[1] for row in ends}


def persist(function: Callable[[], T]) -> T:
    """Call again until Postgres is there; every call that the moves make may be repeated."""
    while True:
        try:
            return function()
        except DatabaseError as error:
            if not database.is_outage(error):
                raise
            time.sleep(0.5)


def open_tasks() -> int:
    """How many tasks have not ended."""
    t = tables.tasks
    with database.transaction() as connection:
        statement = sa.select(sa.func.count()).where(t.c.status.in_(("Pending", "Processing")))
        return connection.execute(statement).scalar_one()


def run(seed: int, seconds: float) -> None:
    """One run on a Postgres of its own."""
    with tempfile.TemporaryDirectory(prefix="unitask-chaos-") as folder:
        home = Path(folder)
        url = embedded.ensure_database(embedded.start(home), database.DATABASE_NAME)
        chaos: Chaos | None = None
        try:
            upgrade(url)
            set_environment(url, home)
            table.sync(database.get_engine())
            owner = make_owner()
            set_environment(url, home, UNITASK_TOKEN=owner.token)
            chaos = Chaos(seed, home, owner, make_images(owner, home, 4))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                chaos.move()
                time.sleep(chaos.rng.uniform(0, PAUSE_SECONDS))
            chaos.wait_until_all_have_ended()
            print(f"seed {seed}: {dict(chaos.moves)}; tasks {chaos.check()}")
        finally:
            if chaos is not None:
                chaos.stop()
            embedded.stop(home)


def set_environment(url: str, home: Path, **more: Any) -> None:
    """Settings for this process and those that it starts: short intervals, everything under `home`."""
    os.environ.update(
        UNITASK_DATABASE_URL=url,
        UNITASK_HOME=str(home),
        UNITASK_STORAGE_URL=f"file://{home / 'storage'}",
        UNITASK_LEASE_SECONDS="5",
        UNITASK_HEARTBEAT_SECONDS="0.5",
        UNITASK_POLL_SECONDS="0.5",
        **more,
    )
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
