"""What of the platform runs, what Prefect knows of its pools, and what keeps work waiting."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from db.engine import read_json
from deployments.pools import START_SECONDS, Finding, Rows, examine_pools, read_rows
from deployments.state import RunState, resolve_home, state
from deployments.supervisor import POOLS
from flows import api
from tasks_lib.database import database_url
from tasks_lib.errors import DatabaseError
from tasks_lib.settings import get_settings
from tasks_lib.types import table

ANSWER_SECONDS = 5


def platform_status(home: Path | None = None) -> dict[str, Any]:
    """Processes and pools as plain data: `ready`, `prefect_ui_url`, `processes`, `pools`, and `findings` in words.

    A database or an API of one's own counts as a process without a pid. Where both are one's own and no supervisor runs
    here, the workers run elsewhere: they are judged by their heartbeats alone.
    """
    home = resolve_home(home)
    run = state(home)
    api_url = run.prefect_api_url if run else os.environ.get("PREFECT_API_URL", "")
    pids = run.pids if run else {}
    elsewhere = run is None and bool(api_url and get_settings().database_url)
    names = [] if elsewhere else ["supervisor", *(f"{pool}-worker" for pool in POOLS)]
    processes = {name: _process(psutil.pid_exists(pids.get(name, -1)), pids.get(name), home) for name in names}
    rows, findings, where = _read_database(run.database_url if run else None)
    processes["postgres"] = _process(rows is not None, pids.get("postgres"), where)
    answering = False
    pools: dict[str, Any] = {}
    if api_url:
        with api.client(api_url, ANSWER_SECONDS) as client:
            answering = api.answers(client, "/health")
            if answering:
                pools, more = _examine(client, rows or Rows({}), starting=_is_starting(run))
                findings += more
    processes["server"] = _process(answering, pids.get("server"), api_url)
    running = all(process["state"] == "running" for process in processes.values())
    return {
        "ready": running and all(finding.state == "note" for finding in findings),
        "prefect_ui_url": api_url.removesuffix("/api"),
        "processes": processes,
        "pools": pools,
        "findings": [finding._asdict() for finding in findings],
    }


def _process(running: bool, pid: int | None, where: object) -> dict[str, Any]:
    return {"state": "running" if running else "stopped", "pid": pid if running else None, "where": str(where)}


def _is_starting(run: RunState | None) -> bool:
    """Whether the workers here have just been started, and may not have announced themselves yet."""
    try:
        return run is not None and time.time() - psutil.Process(run.pids["supervisor"]).create_time() < START_SECONDS
    except (KeyError, psutil.Error):
        return False


def _read_database(url: str | None) -> tuple[Rows | None, list[Finding], str]:
    """Return what the database tells of the pools (None if it does not answer) and of task types, and where it is."""
    try:
        url = url or database_url()
    except DatabaseError:
        return None, [], ""
    engine = sa.create_engine(
        url,
        poolclass=sa.NullPool,
        json_deserializer=read_json,
        connect_args={"connect_timeout": ANSWER_SECONDS},
    )
    where = engine.url.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            types = [Finding("task types", *found) for found in table.findings(connection)]
            return read_rows(connection), types, where
    except sa.exc.ProgrammingError:  # an older schema, or none
        return (
            Rows({}),
            [Finding("database", "wrong", "its schema is of another version: `unitask deploy` migrates it")],
            where,
        )
    except sa.exc.DBAPIError:
        return None, [], where


def _examine(client: httpx.Client, rows: Rows, *, starting: bool) -> tuple[dict[str, Any], list[Finding]]:
    try:
        return examine_pools(client, rows, starting=starting)
    except httpx.HTTPError as error:
        return {}, [Finding("pools", "wrong", f"Prefect's API does not tell about the pools: {error}")]
