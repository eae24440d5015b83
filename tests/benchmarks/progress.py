"""Whether a thousand running tasks that tell their progress slow the claims of others.

They run on fifty workers, and each worker reports its twenty tasks in one statement a second, as `pulse.py` does: from
a process of their own, so that only Postgres is shared with the session that claims.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any

from tasks_lib import database
from tasks_lib.queue import Lease, Progress, leases
from tasks_lib.settings import get_settings
from tests.benchmarks import machine
from tests.benchmarks.claim import fill, measure

WORKERS = 50
TASKS_OF_A_WORKER = 20
CLAIMS = 600
ROUNDS = 5
REPORTERS = 8
"""Threads that the workers' statements come from: each is a session of Postgres."""


def hold(worker: str) -> list[Lease]:
    """What one worker runs from now on, for longer than this takes."""
    found = database.call(
        "claim_tasks", p_run_type="gpu", p_worker_id=worker, p_limit=TASKS_OF_A_WORKER, p_lease_seconds=3600.0
    )
    return [Lease(row["id"], row["lease_id"]) for row in found]


def report(held: list[list[Lease]], stop: Event, sent: Any) -> None:
    """What the workers do: every second, one statement for each of them, until the event."""
    percent = 0.0
    with ThreadPoolExecutor(REPORTERS) as pool:
        while not stop.is_set():
            due = time.monotonic() + get_settings().progress_seconds
            percent = (percent + 0.5) % 100
            progress = Progress(percent, int(percent), 100, "step by step")
            for lost in pool.map(leases.report_all, [dict.fromkeys(own, progress) for own in held]):
                assert not lost
            sent.value += sum(map(len, held))
            stop.wait(max(0.0, due - time.monotonic()))


@contextmanager
def reporting(held: list[list[Lease]]) -> Iterator[list[float]]:
    """In this block all tasks report; afterwards the list has how many reports came in a second."""
    context = get_context("spawn")
    stop, sent, rate = context.Event(), context.Value("q", 0), list[float]()
    process = context.Process(target=report, args=(held, stop, sent))
    process.start()
    while sent.value < 2 * WORKERS * TASKS_OF_A_WORKER:
        assert process.is_alive()
        time.sleep(0.05)
    before, start = sent.value, time.perf_counter()
    try:
        yield rate
        rate.append((sent.value - before) / (time.perf_counter() - start))
    finally:
        stop.set()
        process.join()


def run() -> dict[str, float]:
    """Claims in a second while the running tasks are silent, and while they report; the median of some rounds."""
    silent, loud, rates = list[float](), list[float](), list[float]()
    with machine.fresh_database():
        fill(finished=20_000, pending=WORKERS * TASKS_OF_A_WORKER + (2 * ROUNDS + 1) * CLAIMS, users=10)
        held = [hold(f"worker {i}") for i in range(WORKERS)]
        running = sum(map(len, held))
        assert running == WORKERS * TASKS_OF_A_WORKER
        measure(100)
        # In turn, so that what else the machine does meets both.
        for _ in range(ROUNDS):
            silent.append(measure(CLAIMS))
            with reporting(held) as rate:
                loud.append(measure(CLAIMS))
            rates += rate
        database.get_engine().dispose()
    figures = {
        "silent": statistics.median(silent),
        "reporting": statistics.median(loud),
        "reports": statistics.median(rates),
    }
    figures["ratio"] = figures["reporting"] / figures["silent"]
    print(f"claims of one session while {running} running tasks are silent: {figures['silent']:,.0f}/s")
    print(f"while each of them reports once a second ({figures['reports']:,.0f}/s): {figures['reporting']:,.0f}/s")
    print(f"so a claim while they report is at {figures['ratio']:.2f} of its rate")
    return figures


if __name__ == "__main__":
    run()
