"""One task, one job, one charge: through success, misbehaviour, cancellation and crowds."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tasks_lib import get_task, storage
from tasks_lib.providers.simulator import Call, Fault, Simulator
from tests.conftest import Owner
from tests.integration.providers.conftest import create, job_rows, ledger, run_to_end

BOTH = pytest.mark.parametrize("provider", ["replicate", "fal"])


@BOTH
def test_result_is_kept_as_ours_when_a_provider_serves_the_task(
    sim: Simulator, owner: Owner, provider: str, tmp_path: Any
) -> None:
    task_id = create(owner, provider)
    run_to_end(task_id)
    task = get_task(task_id)
    assert (task.status, task.error_message) == ("Complete", None)
    assert task.output_location is not None
    storage.fetch(task.output_location, tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as image:
        assert image.size == (64, 64)
    (job,) = job_rows()
    assert (job["state"], job["provider"], job["run"]) == ("succeeded", provider, 1)
    assert job["job_id"] in sim.jobs
    assert sim.jobs[job["job_id"]].key == job["key"] == f"{task_id}.0.1"
    assert ledger(task_id) == {"hold", "capture"}


FAULTS: list[tuple[str, Call, Fault, dict[str, Any], str, str | None]] = [
    # provider, call, fault, how often; the state of the task, and its error's kind
    ("fal", "submit", "429", {"times": 2}, "Complete", None),
    ("fal", "submit", "429", {"times": 2, "seconds": 1}, "Complete", None),
    ("fal", "submit", "500", {}, "Failed", "unknown_outcome"),
    ("fal", "submit", "cut", {}, "Failed", "unknown_outcome"),
    ("fal", "submit", "slow_headers", {"seconds": 3}, "Failed", "unknown_outcome"),
    ("fal", "submit", "html", {}, "Failed", "unknown_outcome"),
    ("fal", "submit", "401", {}, "Failed", "provider"),
    ("replicate", "submit", "cut", {}, "Complete", None),
    ("replicate", "submit", "slow_headers", {"seconds": 3}, "Complete", None),
    ("replicate", "status", "500", {"times": 3}, "Complete", None),
    ("replicate", "status", "429", {"times": 2}, "Complete", None),
    ("replicate", "status", "cut", {"times": 2}, "Complete", None),
    ("replicate", "status", "slow_body", {"seconds": 3}, "Complete", None),
    ("fal", "status", "html", {"times": 2}, "Complete", None),
    ("fal", "status", "lost", {}, "Failed", "provider"),
    ("fal", "status", "failed", {}, "Failed", "provider"),
    ("fal", "answer", "500", {"times": 2}, "Complete", None),
    ("fal", "answer", "gone", {}, "Failed", "provider"),
    ("fal", "file", "500", {"times": 2}, "Complete", None),
    ("fal", "file", "cut", {}, "Complete", None),
    ("fal", "file", "html", {}, "Failed", "result_gone"),
    ("replicate", "file", "gone", {}, "Failed", "result_gone"),
]


@pytest.mark.parametrize(("provider", "call", "fault", "how", "status", "kind"), FAULTS)
def test_task_ends_in_the_right_state_when_the_provider_misbehaves(
    sim: Simulator,
    owner: Owner,
    provider: str,
    call: Call,
    fault: Fault,
    how: dict[str, Any],
    status: str,
    kind: str | None,
) -> None:
    sim.fault(call, fault, **how)
    task_id = create(owner, provider)
    run_to_end(task_id)
    task = get_task(task_id)
    assert (task.status, task.error_kind) == (status, kind), task.error_message
    assert len(sim.jobs) <= 1
    if kind == "unknown_outcome":
        # Nobody knows whether it was paid for: the hold stays.
        assert ledger(task_id) == {"hold"}
    else:
        assert ledger(task_id) == {"hold", "capture" if status == "Complete" else "release"}
