"""A worker process whose login may do a worker's things alone: it does its work, and finds nothing missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from tasks_lib import create_task, database, get_task, list_tasks
from tasks_lib.providers.simulator import Simulator
from tests.conftest import Owner
from tests.integration.providers.conftest import create, ledger
from tests.logins import login
from tests.races.sessions import wait_until

ROOT = Path(__file__).parents[3]
TRAVEL = {"image_urls": ["https://example.com/0.jpg"], "base_prompts": ["a walk"], "segment_frames": 9}


def test_worker_works_and_hosts_when_its_login_may_do_nothing_else(sim: Simulator, owner: Owner) -> None:
    edit = create(owner, "replicate")
    travel = create_task("travel_orchestrator", TRAVEL, project_id=owner.project_id).task_id
    with login(database.database_url(), "unitask_worker") as url:
        running = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.providers.worker_process"],
            cwd=ROOT,
            env={**os.environ, "UNITASK_DATABASE_URL": url},
        )
        try:
            wait_until(lambda: get_task(edit).is_final and list_tasks(parent_task_id=travel), 60)
            with database.transaction() as connection:
                users = connection.execute(
                    sa.text("SELECT usename FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                )
                assert sa.make_url(url).username in users.scalars()
        finally:
            running.kill()
            running.wait()
    assert (get_task(edit).status, get_task(edit).error_message) == ("Complete", None)
    assert ledger(edit) == {"hold", "capture"}
    assert get_task(travel).status == "Processing"
