"""What of the platform runs, and what Prefect knows of its pools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from deployments.state import resolve_home, state
from deployments.supervisor import POOLS
from flows import api
from tasks_lib.database import database_url
from tasks_lib.errors import DatabaseError

ANSWER_SECONDS = 5


def platform_status(home: Path | None = None) -> dict[str, Any]:
    """Processes and pools as plain data: `ready`, `prefect_ui_url`, `processes` and `pools`, each by its name.

    A database or an API of one's own counts as a process without a pid.
    """
    home = resolve_home(home)
    run = state(home)
    pids = run.pids if run else {}
    api_url = run.prefect_api_url if run else os.environ.get("PREFECT_API_URL", "")
    names = ["supervisor", *(f"{pool}-worker" for pool in POOLS)]
    processes = {name: _process(psutil.pid_exists(pids.get(name, -1)), pids.get(name), home) for name in names}
    database, where = _database(run.database_url if run else None)
    processes["postgres"] = _process(database, pids.get("postgres"), where)
    answering, pools = False, {}
    if api_url:
        with api.client(api_url, ANSWER_SECONDS) as client:
            answering = api.answers(client, "/health")
            pools = _pools(client) if answering else {}
    processes["server"] = _process(answering, pids.get("server"), api_url)
    return {
        "ready": all(process["state"] == "running" for process in processes.values()),
        "prefect_ui_url": api_url.removesuffix("/api"),
        "processes": processes,
        "pools": pools,
    }


def _process(running: bool, pid: int | None, where: object) -> dict[str, Any]:
    return {"state": "running" if running else "stopped", "pid": pid if running else None, "where": str(where)}


def _database(url: str | None) -> tuple[bool, str]:
    try:
        url = url or database_url()
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": ANSWER_SECONDS})
        where = engine.url.render_as_string(hide_password=True)
        with engine.connect():
            return True, where
    except DatabaseError:
        return False, ""
    except sa.exc.DBAPIError:
        return False, where


def _pools(client: httpx.Client) -> dict[str, Any]:
    def rows(path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.post(path, json={}).raise_for_status().json()
        return found

    try:
        return {
            pool["name"]: {
                "state": pool["status"].lower(),
                "workers": sum(w["status"] == "ONLINE" for w in rows(f"/work_pools/{pool['name']}/workers/filter")),
                "queues": {q["name"]: q["status"].lower() for q in rows(f"/work_pools/{pool['name']}/queues/filter")},
            }
            for pool in rows("/work_pools/filter")
            if pool["name"] in POOLS
        }
    except httpx.HTTPError:
        return {}
