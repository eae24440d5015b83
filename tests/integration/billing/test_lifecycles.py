"""Random lives of tasks of one poor user, from thirty-two threads at once; then the books are level.

`make property` lives 10,000 of them. A failure prints its seed; which thread came first is no part of it.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.billing import ledger
from tasks_lib.errors import ConflictError, InsufficientCreditsError
from tests.conftest import Owner

LIVES = int(os.environ.get("UNITASK_TEST_LIVES", "250"))
SEED = int(os.environ.get("UNITASK_TEST_SEED") or random.randrange(1 << 32))
THREADS = 32
PRICES: list[dict[str, Any]] = [
    {"per": "unit", "amount": "0.025", "low": "0.025", "high": "0.025"},
    {"per": "unit", "amount": "0.000001", "low": "0.000001", "high": "0.000001"},
    {"per": "second", "amount": "0.0278", "low": "0.0278", "high": "0.6672"},
    {"per": "unit", "amount": "0", "low": "0", "high": "0"},
]


class Life:
    """One task, or a parent with its children, and what people, workers and providers do to them by chance."""

    def __init__(self, owner: Owner, seed: str) -> None:
        self.random = random.Random(seed)
        self.owner = owner
        self.seen: Counter[str] = Counter()

    def live(self) -> Counter[str]:
        """Create, and then one thing after the other until nothing more can happen."""
        children = self.random.choice([0, 0, 0, 2, 3])
        price = self.family(children) if children else self.random.choice(PRICES)
        task = self.create("travel_orchestrator" if children else "travel_segment", price)
        if task and children:
            self.host(task, list(price["children"]))
        elif task:
            self.work(task)
        return self.seen

    def family(self, count: int) -> dict[str, Any]:
        children = {f"child {i}": self.random.choice(PRICES) for i in range(count)}
        sums = {name: str(sum(Decimal(price[name]) for price in children.values())) for name in ("low", "high")}
        return {**sums, "children": children}

    def create(self, task_type: str, price: dict[str, Any]) -> UUID | None:
        row = {"task_type": task_type, "project_id": str(self.owner.project_id), "price": price}
        for _ in range(4):
            try:
                (answer,) = database.call("create_tasks", p_rows=json.dumps([row]), p_enforce_credits=True)
            except InsufficientCreditsError:
                self.seen["refused"] += 1
                if self.random.random() < 0.5:
                    ledger.grant(self.owner.user_id, Decimal(self.random.randrange(1, 400_000)).scaleb(-6))
            else:
                self.seen["created"] += 1
                task_id: UUID = answer["task_id"]
                return task_id
        return None

    def host(self, parent: UUID, keys: list[str]) -> None:
        if self.random.random() < 0.1:
            return self.cancel(parent)
        lease = self.claim(parent, hosted=True)
        rows = [
            {
                "task_type": "travel_segment",
                "project_id": str(self.owner.project_id),
                "parent_task_id": str(parent),
                "child_key": key,
            }
            for key in keys
        ]
        children = [row["task_id"] for row in database.call("plant_children", **lease, p_rows=json.dumps(rows))]
        if self.random.random() < 0.15:
            return self.cancel(parent)
        for child in children:
            self.work(child)
        if self.random.random() < 0.2:
            self.refund(parent, None)
        return None

    def work(self, task: UUID) -> None:
        """What happens to a leaf until it stays as it is."""
        while True:
            if self.random.random() < 0.1:
                self.cancel(task)
            else:
                self.attempt(task)
            if self.status(task) not in ("Failed", "Cancelled") or self.random.random() < 0.5 or not self.retry(task):
                break
        if self.random.random() < 0.3:
            self.refund(task, self.random.choice([None, Decimal("0.01")]))
        if self.random.random() < 0.05:
            self.seen["deleted"] += 1
            with database.transaction() as connection:
                connection.execute(sa.delete(tables.tasks).where(tables.tasks.c.id == task))

    def attempt(self, task: UUID) -> None:
        lease = self.claim(task)
        end = self.random.choices(("complete", "fail", "lose", "delete"), (6, 2, 1, 0.3))[0]
        self.seen[end] += 1
        if end == "complete":
            for _ in range(self.random.choice([1, 1, 2])):
                database.call("complete_task", **lease, p_output_location="film.mp4", p_result="{}")
        elif end == "delete":
            with database.transaction() as connection:
                connection.execute(sa.delete(tables.tasks).where(tables.tasks.c.id == task))
        else:
            job = self.submit(lease) if end == "lose" else None
            report = {"p_error_kind": "engine", "p_error_message": "no", "p_retryable": self.random.random() < 0.3}
            database.call("fail_task", **lease, **report, p_retry_after=0.0)
            if job and self.random.random() < 0.3:
                database.call("end_provider_job", p_id=job, p_state="failed")
            elif job and self.random.random() < 0.3:
                ledger.release(task)

    def submit(self, lease: dict[str, Any]) -> UUID:
        """A provider's answer is lost: nobody knows whether there is a job."""
        begun = {"p_part": 0, "p_provider": "fal", "p_model": "m", "p_concurrency": 10**6, "p_per_minute": 10**6}
        (job,) = database.call("begin_provider_job", **lease, **begun)
        database.call("end_provider_job", p_id=job["id"], p_state="unknown")
        id_: UUID = job["id"]
        return id_

    def claim(self, task: UUID, *, hosted: bool = False) -> dict[str, Any]:
        (row,) = database.call(
            "claim_tasks",
            p_run_type="api" if hosted else "gpu",
            p_worker_id="worker",
            p_limit=1,
            p_lease_seconds=600.0,
            p_hosted=hosted,
            p_task_id=task,
        )
        return {"p_task_id": task, "p_lease_id": row["lease_id"]}

    def cancel(self, task: UUID) -> None:
        self.seen["cancelled"] += 1
        database.call("cancel_task", p_task_id=task, p_reason="not wanted")

    def retry(self, task: UUID) -> bool:
        try:
            database.call("retry_task", p_task_id=task, p_enforce_credits=True)
        except InsufficientCreditsError:
            self.seen["retry refused"] += 1
            return False
        self.seen["retried"] += 1
        return True

    def refund(self, task: UUID, amount: Decimal | None) -> None:
        for _ in range(2):
            with suppress(ConflictError):
                database.call("refund_credits", p_task_id=task, p_amount=amount, p_reason="sorry")
                self.seen["refunded"] += 1

    def status(self, task: UUID) -> str | None:
        with database.transaction() as connection:
            status: str | None = connection.scalar(sa.select(tables.tasks.c.status).where(tables.tasks.c.id == task))
        return status


@pytest.fixture
def sessions(database_url: str) -> Iterator[None]:
    """A session of Postgres for every thread: the process's own pool would let twenty of them in at a time."""
    engine = sa.create_engine(database_url, pool_size=THREADS + 1, max_overflow=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "get_engine", lambda: engine)
        yield
    engine.dispose()


def lowest_balance(owner: Owner, done: threading.Event) -> Decimal:
    """The lowest balance that could be seen until the event."""
    lowest = Decimal(0)
    while not done.wait(0.05):
        lowest = min(lowest, database.scalar("balance", p_user_id=owner.user_id))
    return lowest


@pytest.mark.usefixtures("sessions")
@pytest.mark.timeout(7200)
def test_books_are_level_when_many_creators_share_one_small_purse(owner: Owner) -> None:
    print(f"UNITASK_TEST_SEED={SEED}, {LIVES} lives")
    ledger.grant(owner.user_id, Decimal("1"))
    done = threading.Event()
    with ThreadPoolExecutor(THREADS) as creators, ThreadPoolExecutor(1) as watcher:
        lowest = watcher.submit(lowest_balance, owner, done)
        try:
            lives = creators.map(lambda i: Life(owner, f"{SEED}:{i}").live(), range(LIVES))
            seen = sum(lives, Counter[str]())
        finally:
            done.set()
    print(dict(seen))
    assert {"created", "refused", "complete", "retried", "refunded", "cancelled", "lose", "delete"} <= seen.keys()
    assert lowest.result() == 0

    books = ledger.reconcile()
    assert books.faults == ()
    assert books.accounts[0].balance >= 0
    # Held still: what was left pending or running, and what nobody knows about.
    assert {hold.jobs is not None for hold in books.kept_holds} <= {True}
    rows = tables.credit_ledger
    with database.transaction() as connection:
        assert connection.scalar(sa.select(sa.func.sum(rows.c.amount))) == books.accounts[0].balance
        counts = connection.execute(
            sa.select(sa.func.count().filter(rows.c.kind == "hold"), sa.func.count().filter(rows.c.kind != "hold"))
            .where(rows.c.task_id.is_not(None), rows.c.kind != "refund")
            .group_by(rows.c.task_id, rows.c.life)
        ).all()
    assert {tuple(row) for row in counts} <= {(1, 0), (1, 1)}
