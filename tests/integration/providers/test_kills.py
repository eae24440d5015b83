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


def test_task_is_paid_for_once_when_its_worker_is_killed_at_any_point(
    sim: Simulator, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_LEASE_SECONDS", "60")
    task_ids = {point: create(owner, "replicate", prompt=point) for point in dying_worker.POINTS}
    # One process imports it all, and the workers are forked from there.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([dying_worker.__name__])
    workers = [context.Process(target=dying_worker.main, args=given) for given in task_ids.items()]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [-9] * len(workers)

    with database.transaction() as connection:
        t = tables.tasks
        connection.execute(sa.update(t).where(t.c.status == "Processing").values(leased_until=sa.func.now()))
    run_to_end(*task_ids.values())
    assert {point: get_task(task_id).status for point, task_id in task_ids.items()} == dict.fromkeys(
        task_ids, "Complete"
    )
    assert sorted(job.key for job in sim.jobs.values()) == sorted(f"{task_id}.0.1" for task_id in task_ids.values())
    assert [job["state"] for job in job_rows()] == ["succeeded"] * len(task_ids)
    assert [ledger(task_id) for task_id in task_ids.values()] == [{"hold", "capture"}] * len(task_ids)
