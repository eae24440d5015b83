"""Logins of least rights, as an operator makes them: real ones, which can become nobody else."""

from __future__ import annotations

import os
import pwd
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tasks_lib.settings import get_settings
from tests.conftest import forget_engine


def _execute(url: str | sa.URL, statement: str) -> Any:
    """The first value that a statement answers, if it answers any."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement))
        return result.scalar() if result.returns_rows else None


@contextmanager
def login(url: str, role: str) -> Iterator[str]:
    """The URL of a new login that is a member of one role, and of none that it could become instead."""
    name, password = f"login_{secrets.token_hex(6)}", secrets.token_hex(16)
    _execute(url, f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {role}")
    own = sa.make_url(url).set(username=name, password=password)
    # The embedded server asks the kernel who is calling: this system user may be that login, too.
    idents = Path(_execute(url, "SHOW ident_file"))
    if os.access(idents, os.W_OK):
        with idents.open("a") as file:
            file.write(f'unitask "{pwd.getpwuid(os.geteuid()).pw_name}" "{name}"\n')
        _execute(url, "SELECT pg_reload_conf()")
    _wait_until_let_in(own)
    try:
        yield own.render_as_string(False)
    finally:
        _execute(url, f"DROP ROLE {name}")


def _wait_until_let_in(url: sa.URL) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            _execute(url, "SELECT 1")
            return
        except sa.exc.OperationalError:
            assert time.monotonic() < end, "the login is not let in"
            time.sleep(0.02)


@contextmanager
def connected_as(url: str) -> Iterator[None]:
    """In this block the library of this process uses that login."""
    patch = pytest.MonkeyPatch()
    patch.setenv("UNITASK_DATABASE_URL", url)
    get_settings.cache_clear()
    forget_engine()
    try:
        yield
    finally:
        patch.undo()
        forget_engine()
        get_settings.cache_clear()
