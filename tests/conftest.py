"""A real Postgres for every test: one server a run, and for each test a database of its own, cloned from a template."""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from xdist.scheduler import LoadScopeScheduling

from db import embedded, tables
from db.engine import create_engine
from db.migrate import upgrade
from tasks_lib import database
from tasks_lib.auth import issue_token
from tasks_lib.settings import get_settings
from tasks_lib.types import table

TEMPLATE = "unitask_template"

# Each starts a whole platform, which is more than two at a time would leave room for.
PLATFORM_TESTS = ("tests/flows/", "tests/acceptance/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that need a platform take longest: they begin first."""
    items.sort(key=lambda item: not item.nodeid.startswith(PLATFORM_TESTS))


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Shares the tests between processes file by file, and gives all that need a platform to one process."""

    def _split_scope(self, nodeid: str) -> str:
        return "platform" if nodeid.startswith(PLATFORM_TESTS) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How `pytest -n` shares the tests; not by groups, whose names pytest 9.2 does not let xdist 3.8 give."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The maintenance database of the server under test: `UNITASK_DATABASE_URL`'s, or an embedded one of this run."""
    if url := os.environ.get("UNITASK_DATABASE_URL"):
        yield sa.make_url(url).set(drivername="postgresql+psycopg", database="postgres").render_as_string(False)
        return
    with tempfile.TemporaryDirectory(prefix="unitask-test-") as folder:
        home = Path(folder)
        yield embedded.start(home)
        embedded.stop(home)


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """A migrated database that each test's own is a copy of."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    url = embedded.ensure_database(server_url, name)
    upgrade(url)
    engine = create_engine(url)
    table.sync(engine)
    engine.dispose()
    return name


def _execute(server_url: str, statement: str) -> None:
    engine = sa.create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))


@pytest.fixture
def database_url(server_url: str, template: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An empty tasks database of the test's own, and settings that point at it."""
    name = f"test_{uuid.uuid4().hex}"
    _execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    url = sa.make_url(server_url).set(database=name).render_as_string(False)
    monkeypatch.setenv("UNITASK_DATABASE_URL", url)
    monkeypatch.setenv("UNITASK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNITASK_STORAGE_URL", f"file://{tmp_path / 'storage'}")
    # Tests are busier than people.
    monkeypatch.setenv("UNITASK_CREATE_CALLS_PER_MINUTE", "100000")
    monkeypatch.setenv("UNITASK_CREATE_ROWS_PER_MINUTE", "1000000")
    monkeypatch.delenv("UNITASK_TOKEN", raising=False)
    monkeypatch.delenv("UNITASK_SERVICE_KEY", raising=False)
    get_settings.cache_clear()
    forget_engine()
    yield url
    forget_engine()
    get_settings.cache_clear()
    _execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def forget_engine() -> None:
    """Close this process's pool, if there is one: a pool that is only dropped leaves its connections open."""
    # A wake-up that is still on its way would take a connection from the pool while it is closed.
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    if database.get_engine.cache_info().currsize:
        database.get_engine().dispose()
    database.get_engine.cache_clear()


@dataclass(frozen=True)
class Owner:
    """A user with a project and a token."""

    user_id: uuid.UUID
    project_id: uuid.UUID
    token: str


def answers(url: str) -> bool:
    """Whether something answers well at an address."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def make_owner(name: str = "somebody") -> Owner:
    """A new user, project and token in the test's database."""
    with database.transaction() as connection:
        user_id = connection.execute(
            sa.insert(tables.users).values(name=name).returning(tables.users.c.id)
        ).scalar_one()
        project_id = connection.execute(
            sa.insert(tables.projects)
            .values(user_id=user_id, name="a project", aspect_ratio="16:9")
            .returning(tables.projects.c.id)
        ).scalar_one()
    return Owner(user_id, project_id, issue_token(user_id).secret.get_secret_value())


@pytest.fixture
def owner(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """The test's own user; their token is the default one."""
    made = make_owner()
    monkeypatch.setenv("UNITASK_TOKEN", made.token)
    get_settings.cache_clear()
    return made
