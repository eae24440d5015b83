"""A database and a platform for benchmarks, and what must be known of them to read a figure."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from db import embedded, migrate
from db.engine import create_engine
from deployments import supervisor
from deployments.deploy import deploy
from deployments.state import RunState
from tasks_lib import database
from tasks_lib.settings import get_settings
from tasks_lib.types import table

SETTINGS = ("UNITASK_HOME", "UNITASK_DATABASE_URL", "UNITASK_STORAGE_URL", "UNITASK_TOKEN", "PREFECT_API_URL")


@contextmanager
def fresh_home() -> Iterator[Path]:
    """A home folder of its own, which the settings of this process point at."""
    with tempfile.TemporaryDirectory(prefix="unitask-bench-") as folder:
        before = {name: os.environ.pop(name, None) for name in SETTINGS}
        os.environ["UNITASK_HOME"] = folder
        # Pictures are created here and not made: no provider ever sees it.
        os.environ.setdefault("UNITASK_FAL_KEY", "no key")
        _forget()
        try:
            yield Path(folder)
        finally:
            os.environ.update({name: value for name, value in before.items() if value is not None})
            _forget()


@contextmanager
def fresh_database() -> Iterator[sa.Engine]:
    """A migrated tasks database on an embedded server of its own, as `database.get_engine()` finds it."""
    with fresh_home() as home:
        server = embedded.start(home)
        try:
            url = embedded.ensure_database(server, database.DATABASE_NAME)
            migrate.upgrade(url)
            engine = create_engine(url)
            table.sync(engine)
            yield engine
            engine.dispose()
            database.get_engine().dispose()
        finally:
            embedded.stop(home)


@contextmanager
def fresh_platform() -> Iterator[RunState]:
    """Postgres, Prefect's server and its workers, with our deployments, and no worker flow yet."""
    with fresh_home() as home:
        run = supervisor.up(home)
        try:
            deploy(home)
            yield run
            database.get_engine().dispose()
        finally:
            supervisor.down(home)


def postgres_settings() -> str:
    """What a rate on Postgres depends on."""
    with fresh_database() as engine, engine.connect() as connection:
        shown = {
            name: connection.scalar(sa.text(f"SHOW {name}"))
            for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        }
    return "Postgres " + ", ".join(f"{name}={value}" for name, value in shown.items())


def _forget() -> None:
    get_settings.cache_clear()
    database.get_engine.cache_clear()
