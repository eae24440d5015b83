"""Every way in which a provider can misbehave ends in the right state, in bounded time, with one job at the most."""

from __future__ import annotations

from typing import Any

from tasks_lib import get_task
from tasks_lib.providers.simulator import Call, Fault, Simulator
from tests.conftest import Owner
from tests.integration.providers.conftest import create, ledger, run_to_end

End = tuple[str, str | None]
COMPLETE: End = ("Complete", None)
UNKNOWN: End = ("Failed", "unknown_outcome")
PROVIDER: End = ("Failed", "provider")
GONE: End = ("Failed", "result_gone")

FAULTS: list[tuple[str, Call, Fault, dict[str, Any], End]] = [
    ("fal", "submit", "429", {"times": 2}, COMPLETE),
    ("fal", "submit", "429", {"times": 1, "seconds": 1}, COMPLETE),
    ("fal", "submit", "500", {}, UNKNOWN),
    ("fal", "submit", "cut", {}, UNKNOWN),
    ("fal", "submit", "cut_before", {}, UNKNOWN),
    ("fal", "submit", "slow_headers", {"seconds": 3}, UNKNOWN),
    ("fal", "submit", "html", {}, UNKNOWN),
    ("fal", "submit", "401", {}, PROVIDER),
    ("replicate", "submit", "500", {}, COMPLETE),
    ("replicate", "submit", "cut", {}, COMPLETE),
    ("replicate", "submit", "cut_before", {}, COMPLETE),
    ("replicate", "submit", "slow_headers", {"seconds": 3}, COMPLETE),
    ("replicate", "status", "500", {"times": 3}, COMPLETE),
    ("replicate", "status", "429", {"times": 2}, COMPLETE),
    ("replicate", "status", "cut", {"times": 2}, COMPLETE),
    ("replicate", "status", "slow_body", {"seconds": 3}, COMPLETE),
    ("replicate", "status", "failed", {}, PROVIDER),
    ("replicate", "status", "lost", {"times": 9}, PROVIDER),
    ("fal", "status", "html", {"times": 2}, COMPLETE),
    ("fal", "status", "lost", {"times": 9}, PROVIDER),
    ("fal", "status", "failed", {}, PROVIDER),
    ("fal", "answer", "500", {"times": 2}, COMPLETE),
    ("fal", "answer", "gone", {}, PROVIDER),
    ("fal", "file", "500", {"times": 2}, COMPLETE),
    ("fal", "file", "cut", {}, COMPLETE),
    ("fal", "file", "slow_body", {"seconds": 20}, COMPLETE),
    ("fal", "file", "html", {}, GONE),
    ("replicate", "file", "gone", {}, GONE),
]


def test_tasks_end_in_the_right_state_when_the_provider_misbehaves(sim: Simulator, owner: Owner) -> None:
    names = [f"{provider} {call} {kind} {how}" for provider, call, kind, how, _ in FAULTS]
    for name, (_, call, kind, how, _) in zip(names, FAULTS, strict=True):
        sim.fault(call, kind, prompt=name, **how)
    task_ids = [create(owner, fault[0], prompt=name) for name, fault in zip(names, FAULTS, strict=True)]
    run_to_end(*task_ids, slots=len(FAULTS), seconds=60)

    tasks = [get_task(task_id) for task_id in task_ids]
    assert {name: (task.status, task.error_kind) for name, task in zip(names, tasks, strict=True)} == {
        name: fault[-1] for name, fault in zip(names, FAULTS, strict=True)
    }
    for name, task_id, fault in zip(names, task_ids, FAULTS, strict=True):
        assert sum(job.input["prompt"] == name for job in sim.jobs.values()) <= 1, name
        # Nobody knows whether it was paid for: then the hold stays.
        settled = {COMPLETE: {"capture"}, UNKNOWN: set()}.get(fault[-1], {"release"})
        assert ledger(task_id) == {"hold"} | settled, name
