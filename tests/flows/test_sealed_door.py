"""Deployments as a door: the caller's token travels sealed, and afterwards lies nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tasks_lib import create_task, database, wait_for_task
from tasks_lib.auth import issue_token, revoke_token
from tasks_lib.errors import AuthenticationError
from tasks_lib.settings import get_settings
from tests.flows.conftest import Platform, until

TRAVEL = "travel_orchestrator"
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def rows_with(secret: str) -> list[str]:
    """The tables of every database of the server, ours and Prefect's, in which some row contains a text."""
    found = []
    server = sa.make_url(database.database_url())
    for name in _column(server, "SELECT datname FROM pg_database WHERE NOT datistemplate"):
        inside = server.set(database=name)
        tables = _column(
            inside,
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        )
        found += [
            f"{name}.{table}"
            for table in tables
            if _column(inside, f"SELECT 1 FROM {table} t WHERE strpos(t::text, '{secret}') > 0 LIMIT 1")
        ]
    return found


def _column(url: sa.URL, statement: str) -> list[Any]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement)).scalars())


def files_with(secret: str, home: Path) -> list[str]:
    """The files of the platform that contain a text; the files of Postgres itself were read as tables."""
    files = [path for path in home.rglob("*") if path.is_file() and "postgres/data" not in path.as_posix()]
    return [str(path.relative_to(home)) for path in files if secret.encode() in path.read_bytes()]


def test_task_is_made_and_the_token_lies_nowhere_when_it_travels_sealed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", platform.run.prefect_api_url)
    good, dead = (issue_token(platform.owner.user_id) for _ in range(2))
    revoke_token(dead.prefix)
    request = platform.request(2)
    project_id = request.pop("project_id")

    created = create_task(TRAVEL, request, project_id=project_id, token=good.secret, via="deployment")
    assert created.created
    with pytest.raises(AuthenticationError, match="revoked"):
        create_task(TRAVEL, request, project_id=project_id, token=dead.secret, via="deployment")

    # Somebody reads the parameters of the run in the UI and sends them again, changed.
    run = platform.post("/flow_runs/filter", {"sort": "START_TIME_ASC", "flow_runs": {"name": {"like_": "create "}}})[0]
    stolen = run["parameters"]
    stolen["request"]["params"]["base_prompts"] = ["something else"]
    path = f"/deployments/{run['deployment_id']}/create_flow_run"
    again = platform.post(path, {"parameters": stolen})["id"]
    ended = until(lambda: (r := platform.get(f"/flow_runs/{again}"))["state_type"] in ENDED and r, what="its end")
    assert ended["state_type"] == "FAILED"
    assert re.search("Authentication failed: the sealed token does not belong", ended["state"]["message"])

    assert wait_for_task(created.task_id, timeout=120).status == "Complete"
    for token in (good, dead, platform.owner.token):
        secret = (token if isinstance(token, str) else token.secret.get_secret_value()).split("_")[-1][-30:]
        assert rows_with(secret) == []
        assert files_with(secret, get_settings().home) == []
    assert rows_with(good.prefix), "the search finds what is there"
