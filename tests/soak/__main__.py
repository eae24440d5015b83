"""Thousands of tasks at a provider that misbehaves, in one worker: each ends as it should, and memory stays flat.

`python -m tests.soak [--tasks 5000] [--seconds 600] [--seed N]`. One task in ten meets a fault of the provider, one in
twenty is cancelled while its job runs. What was paid for is read from the provider's own books.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any
from uuid import UUID

import httpx
import psutil
import sqlalchemy as sa

from db import tables
from tasks_lib import cancel_task, create_tasks, database
from tasks_lib.settings import get_settings
from tests.benchmarks.providers import AT_ONCE, platform, provider
from tests.conftest import make_owner
from tests.integration.providers.conftest import PARAMS
from tests.integration.providers.test_faults import COMPLETE, FAULTS, PROVIDER, UNKNOWN, End

CANCELLED: End = ("Cancelled", None)
FAULTY, UNWANTED = 0.1, 0.05
# The limits of the tests are so short that a busy machine would pass them by itself, and so are the faults' delays.
SLOWER = 5
SETTINGS = {
    "API_SLOTS": AT_ONCE,
    "REPLICATE_CONCURRENCY": AT_ONCE,
    "FAL_PER_MINUTE": 100_000,
    "REPLICATE_PER_MINUTE": 100_000,
    "PROVIDER_CALL_SECONDS": 2 * SLOWER,
    "PROVIDER_WAIT_SECONDS": 2 * SLOWER,
    "DOWNLOAD_SECONDS": 4 * SLOWER,
    "WORKER_MAX_TASKS": 10_000_000,
    "IDLE_SECONDS": 3600,
    "CREATE_CALLS_PER_MINUTE": 100_000,
    "CREATE_ROWS_PER_MINUTE": 1_000_000,
}
NEVER = ("fal", "status", "never", {"times": 1_000_000}, PROVIDER)
BATCH = 500
TICK_SECONDS = 0.5
END_SECONDS = 90
MOST_GROWTH = 1.15


class Soak:
    """The tasks, what is to become of each, and what was seen on the way."""

    def __init__(self, url: str, tasks: int, rng: random.Random, latency: float) -> None:
        self.url = url
        self.rng = rng
        self.expected: dict[UUID, End] = {}
        self.unwanted: set[UUID] = set()
        self.early = self.late = 0
        # A job that never ends is given up long after the others are done.
        os.environ["UNITASK_PROVIDER_JOB_SECONDS"] = str(2 * latency + 30)
        owner = make_owner()
        os.environ["UNITASK_TOKEN"] = owner.token
        get_settings.cache_clear()
        plans = [self._plan(i) for i in range(tasks)]
        rows = [
            {
                "task_type": PARAMS[name]["task_type"],
                "params": {**PARAMS[name]["params"], "prompt": prompt},
                "project_id": owner.project_id,
            }
            for name, prompt, _ in plans
        ]
        for start in range(0, tasks, BATCH):
            created = create_tasks(rows[start : start + BATCH])
            for answer, (_, _, end) in zip(created, plans[start : start + BATCH], strict=True):
                self.expected[answer.task_id] = end
                if end is CANCELLED:
                    self.unwanted.add(answer.task_id)

    def _plan(self, number: int) -> tuple[str, str, End]:
        """A task's provider, its prompt, and how it is to end; the provider is told what to do with such a prompt."""
        name, fate = self.rng.choice(("fal", "fal", "replicate")), self.rng.random()
        prompt, end = f"a walk, {number}", COMPLETE
        if fate < FAULTY:
            name, call, kind, how, end = self.rng.choice([*FAULTS, NEVER])
            slower = {"seconds": how["seconds"] * SLOWER} if "seconds" in how else {}
            self._order(call=call, kind=kind, prompt=prompt, **{**how, **slower})
        elif fate < FAULTY + UNWANTED:
            # So that it must be cancelled, and cannot end by itself before.
            end = CANCELLED
            self._order(call="status", kind="never", prompt=prompt, times=1_000_000)
        return name, prompt, end

    def _order(self, **order: Any) -> None:
        httpx.post(f"{self.url}/_sim/faults", json=order).raise_for_status()

    def watch(self, worker: psutil.Process) -> float:
        """Cancel what is unwanted once it runs, until all have ended; answer how many seconds that took."""
        began = time.monotonic()
        while left := self._left():
            for task_id in self._running_unwanted():
                if self.rng.random() < TICK_SECONDS:
                    cancel_task(task_id)
                    self.unwanted.discard(task_id)
            self.late = worker.memory_info().rss
            if len(self.expected) - left >= len(self.expected) / 10:
                self.early = self.early or self.late
            time.sleep(TICK_SECONDS)
        return time.monotonic() - began

    def _left(self) -> int:
        t = tables.tasks
        with database.transaction() as connection:
            statement = sa.select(sa.func.count()).where(t.c.status.in_(("Pending", "Processing")))
            return connection.execute(statement).scalar_one()

    def _running_unwanted(self) -> list[UUID]:
        t = tables.tasks
        with database.transaction() as connection:
            return list(
                connection.scalars(sa.select(t.c.id).where(t.c.status == "Processing", t.c.id.in_(self.unwanted)))
            )

    def check(self) -> Counter[End]:
        """Compare with the plan, the ledger and the provider's books; answer how the tasks ended."""
        t, ledger = tables.tasks, tables.credit_ledger
        with database.transaction() as connection:
            rows = connection.execute(sa.select(t.c.id, t.c.status, t.c.error_kind, t.c.error_message)).all()
            kinds: dict[UUID, set[str]] = {row.id: set() for row in rows}
            for task_id, kind in connection.execute(sa.select(ledger.c.task_id, ledger.c.kind)):
                kinds[task_id].add(kind)
            assert database.call_in(connection, "ledger_faults") == []
        ends = {row.id: (row.status, row.error_kind if row.status == "Failed" else None) for row in rows}
        wrong = [row for row in rows if self.expected[row.id] != ends[row.id]]
        assert not wrong, f"{len(wrong)} tasks ended otherwise than they should: {wrong[:5]}"
        settled = {COMPLETE: {"hold", "capture"}, UNKNOWN: {"hold"}}
        unpaid = [id_ for id_, end in self.expected.items() if kinds[id_] != settled.get(end, {"hold", "release"})]
        assert not unpaid, f"{len(unpaid)} tasks were not settled as they should: {unpaid[:5]}"
        twice = [task for task, count in Counter(job["key"][:36] for job in self._jobs()).items() if count > 1]
        assert not twice, f"{len(twice)} tasks have two jobs at the provider: {twice[:5]}"
        return Counter(self.expected.values())

    def wait_until_no_job_runs(self) -> None:
        """Also the jobs of tasks that were cancelled or given up, some of which would never end."""
        end = time.monotonic() + END_SECONDS
        while running := [job for job in self._jobs() if not job["cancelled"] and job["ends"] > time.time()]:
            assert time.monotonic() < end, f"{len(running)} jobs run on at the provider: {running[:3]}"
            time.sleep(TICK_SECONDS)

    def _jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = httpx.get(f"{self.url}/_sim/jobs", timeout=60).json()
        return jobs


def run(tasks: int, seconds: float, seed: int) -> None:
    """One run; `seconds` is what the jobs alone take, so many at once."""
    latency = seconds * AT_ONCE / tasks
    os.environ |= {f"UNITASK_{name}": str(value) for name, value in SETTINGS.items()}
    with provider(latency, late_cost=1) as url, platform(url):
        soak = Soak(url, tasks, random.Random(seed), latency)
        worker = subprocess.Popen([sys.executable, "-m", "tests.integration.providers.worker_process"])
        try:
            took = soak.watch(psutil.Process(worker.pid))
            soak.wait_until_no_job_runs()
        finally:
            worker.kill()
            worker.wait()
        print(f"{tasks} tasks in {took:.0f} s, {took / seconds:.2f} of what their jobs take: {dict(soak.check())}")
        print(f"memory of the worker: {soak.early >> 20} MiB after a tenth, {soak.late >> 20} MiB at the end")
        assert soak.late <= MOST_GROWTH * soak.early, "the worker grows"


def main() -> None:
    """Read the command line, and print the seed first: it is what a failure needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    run(given.tasks, given.seconds, given.seed)


if __name__ == "__main__":
    main()
