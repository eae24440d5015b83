"""What every process of the platform finds in its environment, written once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import sqlalchemy as sa

MARK = "UNITASK_PLATFORM"
"""Every process that a supervisor starts, and whatever those start, carries this variable with the home folder."""

# Ours unless the user's environment says otherwise. Some durations must be ISO 8601, others seconds.
_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks_lib,db",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Slots held in the server's memory leak for good when it restarts.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # A client without an API address must fail, and not start a server of its own on SQLite.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P3D",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "1209600",
    # Runs planned ahead start late, and at once, after the platform has been down; what was not planned is found from
    # the schedules, see flows/schedules.py: plan few.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT2M",
    # Task runs are recorded in batches, or fifty travels at once show up to a quarter of a minute late. An interval
    # below one second counts as none, and keeps a core busy.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PYTHONUNBUFFERED": "1",
}


def platform_environment(home: Path, root: Path, api_url: str) -> dict[str, str]:
    """The environment of a process that talks to the Prefect API at `api_url`; `root` is where prefect.yaml lies.

    Secrets are in it only if the caller's own environment has them: nothing is ever put into job variables.
    """
    programs = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    return (
        _DEFAULTS
        | {"PREFECT_HOME": str(home / "prefect")}
        | os.environ
        | {
            # Flow runs are started as `python`, which must be this one.
            "PATH": path if path.split(os.pathsep)[0] == programs else f"{programs}{os.pathsep}{path}",
            "PREFECT_API_URL": api_url,
            "UNITASK_HOME": str(home),
            "UNITASK_ROOT": str(root),
            MARK: str(home),
        }
    )


def asyncpg_url(url: str) -> str:
    """The URL of a database as Prefect's server wants it; only what both drivers understand is kept of its options."""
    parsed = sa.make_url(url)
    options = {name: value for name, value in parsed.query.items() if name in {"host", "port"}}
    if "sslmode" in parsed.query:
        options["ssl"] = parsed.query["sslmode"]
    return parsed.set(drivername="postgresql+asyncpg", query=options).render_as_string(hide_password=False)
