"""The platform of one machine: Postgres, Prefect's server and a worker for each pool, kept alive by one process.

`up` starts that process, the supervisor, in the background and waits until all is ready; `down` ends everything.
A supervisor holds `<home>/supervisor.lock` as long as it lives, tells in `<home>/run.json` what runs, and logs to
`<home>/logs`. What a killed one leaves behind is found by its mark in the environment, by `down` and by the next `up`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import sqlalchemy as sa

from db import embedded
from deployments import processes
from deployments.environment import asyncpg_url, platform_environment
from deployments.errors import PlatformError
from deployments.processes import Child
from deployments.state import RunState, locked, resolve_home, state, write
from flows import api
from tasks_lib.database import DATABASE_NAME
from tasks_lib.errors import TaskError
from tasks_lib.queue import leases
from tasks_lib.settings import get_settings

PROJECT = Path(__file__).resolve().parent.parent
POOLS = ("gpu", "api")
PREFERRED_PORT = 4200

START_SECONDS = 180  # the first start of all migrates Prefect's database
HAND_BACK_SECONDS = 8  # after its drain time a worker hands back what it holds, and tells Prefect that it ends
WORKER_STOP_SECONDS = 10
SERVER_STOP_SECONDS = 10
TICK_SECONDS = 0.5
LOG_LINES = 20


def up(home: Path | None = None, root: Path = PROJECT) -> RunState:
    """Start the platform of `home` with the flows of `root`, or find it running, and wait until it is ready.

    Safe to repeat and to call from several processes at once. Raises `PlatformError` with the end of the log.
    """
    home = resolve_home(home)
    log = home / "logs" / "supervisor.log"
    with locked(home / "up.lock"):
        deadline = time.monotonic() + START_SECONDS + drain_seconds()
        started = False
        while time.monotonic() < deadline:
            run = state(home)
            if run and run.ready:
                return run
            if run is None and started:
                raise PlatformError(f"the platform did not start:\n{_tail(log, 2 * LOG_LINES)}")
            if run is None:
                _spawn(home, root, log)
                started = True
            time.sleep(0.05)
    raise PlatformError(f"the platform was not ready in time:\n{_tail(log, 2 * LOG_LINES)}")


def down(home: Path | None = None) -> None:
    """End every process of the platform of `home`, and what a killed supervisor left behind. Safe to repeat."""
    home = resolve_home(home)
    if not home.exists():
        return
    asked: psutil.Process | None = None
    while run := state(home):
        if asked is None and (asked := _supervisor(run, home)):
            processes.end([asked], _stop_seconds())
        time.sleep(0.05)
    processes.end_all(home, SERVER_STOP_SECONDS)
    embedded.stop(home)
    (home / "run.json").unlink(missing_ok=True)


def drain_seconds() -> float:
    """For flow runs to finish or hand back what they hold; for what they do not there are leases."""
    return get_settings().drain_seconds + HAND_BACK_SECONDS


def _stop_seconds() -> float:
    return drain_seconds() + WORKER_STOP_SECONDS + 2 * SERVER_STOP_SECONDS + embedded.STOP_SECONDS


def _supervisor(run: RunState, home: Path) -> psutil.Process | None:
    """The supervisor that told `run`, once it has; a stranger that got the number of a killed one is none."""
    try:
        process = psutil.Process(run.pids.get("supervisor", 0))
        return process if {"deployments.supervisor", str(home)} <= set(process.cmdline()) else None
    except psutil.Error:
        return None


def _spawn(home: Path, root: Path, log: Path) -> None:
    """Start a supervisor; this returns when it holds its lock or has failed."""
    with processes.open_log(log) as output:
        subprocess.run(
            [sys.executable, "-m", "deployments.supervisor", str(home), str(root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=root,
            start_new_session=True,
            check=False,
        )


def _tail(log: Path, lines: int = LOG_LINES) -> str:
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return f"(no log at {log})"


class Supervisor:
    """The processes of one home. `start`, then `keep` again and again, then `stop`."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home = home
        self._embedded = not get_settings().database_url
        self._own_server = not os.environ.get("PREFECT_API_URL")
        if self._own_server:
            self._socket = _listen()
            self._api_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        else:
            self._api_url = os.environ["PREFECT_API_URL"].rstrip("/")
        self._environment = platform_environment(home, root, self._api_url)
        self._database_url = ""
        self._server: Child | None = None
        self._workers: dict[str, Child] = {}
        self._ready = False

    def start(self) -> None:
        """Start everything. The workers are started with the server, whose socket lets them wait for it."""
        self._tell()
        settings = get_settings()
        server_url = embedded.start(self._home) if self._embedded else settings.database_url
        self._database_url = embedded.ensure_database(server_url, DATABASE_NAME) if self._embedded else server_url
        if self._own_server:
            given = os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL")
            database = given or asyncpg_url(embedded.ensure_database(server_url, "prefect"))
            self._server = self._child(
                "server",
                [sys.executable, "-m", "deployments.server", str(self._socket.fileno())],
                PREFECT_SERVER_DATABASE_CONNECTION_URL=database,
            )
        for pool in POOLS:
            self._workers[pool] = self._child(
                f"{pool}-worker",
                [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", pool],
            )
        self.keep()

    def _child(self, name: str, command: list[str], **environment: str) -> Child:
        fds = [self._socket.fileno()] if name == "server" else []
        return Child(command, self._environment | environment, self._home / "logs" / f"{name}.log", fds)

    def wait(self, stopping: threading.Event) -> None:
        """Return when the API answers or it is time to stop. Raises `PlatformError` if it never does."""
        path = "/ready" if self._own_server else "/health"
        deadline = time.monotonic() + START_SECONDS
        with api.client(self._api_url, TICK_SECONDS) as client:
            while not api.answers(client, path):
                if self._server and self._server.pid is None:
                    raise PlatformError(f"Prefect's server ended while it started:\n{_tail(self._server.log)}")
                if time.monotonic() > deadline:
                    log = _tail(self._server.log) if self._server else "PREFECT_API_URL is set, so none was started"
                    raise PlatformError(f"Prefect's API at {self._api_url} does not answer:\n{log}")
                if stopping.wait(0.05):
                    return
        self._ready = True
        self._tell()

    def keep(self) -> None:
        """Start what has ended."""
        lost = self._embedded and embedded.pid(self._home) is None
        if lost:
            embedded.start(self._home)
        children = [*self._workers.values(), *([self._server] if self._server else [])]
        if any([child.keep() for child in children]) or lost:
            self._tell()

    def stop(self) -> None:
        """End everything: flow runs, then workers, then the server that hears of both, then Postgres."""
        self._ready = False
        self._tell()
        # A SIGTERM can fall into the moment in which a sub-flow starts, and Prefect's handler is in place of ours.
        _guarded(leases.drain_workers)
        processes.drain(lambda: processes.marked(self._home), drain_seconds())
        workers = [psutil.Process(worker.pid) for worker in self._workers.values() if worker.pid]
        processes.end(workers, WORKER_STOP_SECONDS)
        processes.end_all(self._home, SERVER_STOP_SECONDS)
        if self._embedded:
            embedded.stop(self._home)

    def _tell(self) -> None:
        pids = {"supervisor": os.getpid()}
        if self._embedded and (postgres := embedded.pid(self._home)):
            pids["postgres"] = postgres
        if self._server and self._server.pid:
            pids["server"] = self._server.pid
        pids |= {f"{pool}-worker": worker.pid for pool, worker in self._workers.items() if worker.pid}
        run = RunState(self._api_url, self._api_url.removesuffix("/api"), self._database_url, pids, self._ready)
        write(self._home, run)


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", PREFERRED_PORT))
        listener.listen(1024)
    except OSError:
        listener.close()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    return listener


def _guarded(step: Callable[[], object]) -> bool:
    """Run a step of the supervisor; what it raises on purpose is logged, and false is returned."""
    try:
        step()
    except (TaskError, embedded.EmbeddedPostgresError, sa.exc.DBAPIError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return False
    return True


def main(home: Path, root: Path) -> int:
    """Be the supervisor of `home`: leave the caller, hold the lock, keep everything running until a signal comes."""
    os.environ["UNITASK_HOME"] = str(home)  # for the settings of this process
    lock = (home / "supervisor.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another supervisor is running", file=sys.stderr)
        return 1
    # What a killed supervisor told must be gone before anybody waits for this one.
    write(home, RunState("", "", "", {}, ready=False))
    if os.fork():
        os._exit(0)  # the child shares the lock
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    processes.end_all(home, SERVER_STOP_SECONDS)
    supervisor = Supervisor(home, root)
    try:
        if not (_guarded(supervisor.start) and _guarded(lambda: supervisor.wait(stopping))):
            return 1
        while not stopping.wait(TICK_SECONDS):
            _guarded(supervisor.keep)
        return 0
    finally:
        supervisor.stop()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
