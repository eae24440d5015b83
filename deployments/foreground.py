"""One process of a platform in the foreground, until a signal comes: for containers and service managers.

They run what `unitask up` keeps running on one machine, in the same environment, and leave starting it again to
whoever started it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import psutil

from deployments import processes
from deployments.environment import asyncpg_url, platform_environment
from deployments.errors import PlatformError
from deployments.state import resolve_home
from deployments.supervisor import PROJECT, TICK_SECONDS, WORKER_STOP_SECONDS, drain_seconds

SERVER_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def work(pool: str, options: Sequence[str] = ()) -> int:
    """Be the worker of a pool, and answer its exit code; `options` are those of `prefect worker start`.

    Alone that kills its flow runs as soon as it is asked to end. Here they first finish or hand back what they hold.
    Raises `PlatformError` if `PREFECT_API_URL` is not set.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not (api_url := os.environ.get("PREFECT_API_URL")):
        raise PlatformError("set PREFECT_API_URL to the Prefect server whose pool this is")
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--type", "process", "--pool", pool, *options],
        stdin=subprocess.DEVNULL,
        env=platform_environment(resolve_home(), PROJECT, api_url),
        start_new_session=True,  # Ctrl-C is for us alone: flow runs end before their worker
    )
    while process.poll() is None and not stopping.wait(TICK_SECONDS):
        pass
    if process.returncode is None:
        worker = psutil.Process(process.pid)
        processes.drain(lambda: worker.children(recursive=True), drain_seconds())
        processes.end([worker], WORKER_STOP_SECONDS)
        return 0
    return process.returncode


def serve(host: str, port: int) -> NoReturn:
    """Become Prefect's server. Raises `PlatformError` if its database is not set or the address cannot be had."""
    if not (database := os.environ.get(SERVER_DATABASE)):
        raise PlatformError(f"set {SERVER_DATABASE} to a Postgres database for Prefect's own tables")
    try:
        listener = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise PlatformError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.set_inheritable(True)
    home = resolve_home()
    api_url = os.environ.get("PREFECT_API_URL") or f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    # Prefect copies its pages before it serves them, by default to where it is installed, which is often not writable.
    environment = {"PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "prefect" / "ui")}
    environment |= platform_environment(home, PROJECT, api_url) | {SERVER_DATABASE: asyncpg_url(database)}
    command = [sys.executable, "-m", "deployments.server", str(listener.fileno())]
    os.execve(command[0], command, environment)  # noqa: S606  there is nothing for a shell to do
