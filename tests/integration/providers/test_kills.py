"""A worker that is killed at any point between create and complete: one job at the provider, one charge."""

from __future__ import annotations

import multiprocessing

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import database, get_task
from tasks_lib.providers.simulator import Simulator
from tests.conftest import Owner
from tests.integration.providers import dying_worker
from tests.integration.providers.conftest import create, job_rows, ledger, run_to_end

# Nobody can ask fal whether it took a submission whose answer was lost.
UNKNOWN = {("fal", "intent stored"), ("fal", "answered")}


def test_task_is_paid_for_once_when_its_worker_is_killed_at_any_point(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_LEASE_SECONDS", "60")
    task_ids = {
        (provider, point): create(owner, provider, prompt=point)
        for provider in ("replicate", "fal")
        for point in dying_worker.POINTS
    }
    # One process imports it all, and the workers are forked from there.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([dying_worker.__name__])
    workers = [context.Process(target=dying_worker.main, args=(point, id_)) for (_, point), id_ in task_ids.items()]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [-9] * len(workers)

    with database.transaction() as connection:
        t = tables.tasks
        connection.execute(sa.update(t).where(t.c.status == "Processing").values(leased_until=sa.func.now()))
    run_to_end(*task_ids.values(), seconds=60)
    ends = {name: (get_task(id_).status, get_task(id_).error_kind, ledger(id_)) for name, id_ in task_ids.items()}
    assert ends == {
        name: ("Failed", "unknown_outcome", {"hold"}) if name in UNKNOWN else ("Complete", None, {"hold", "capture"})
        for name in task_ids
    }
    jobs = [job.key for job in sim.jobs.values()]
    # Who died before it sent anything has no job, and where nobody can know that, nothing is sent a second time.
    assert sorted(jobs) == sorted(f"{id_}.0.1" for name, id_ in task_ids.items() if name != ("fal", "intent stored"))
    unknown = {task_ids[name] for name in UNKNOWN}
    assert {job["state"] for job in job_rows() if job["task_id"] not in unknown} == {"succeeded"}
