"""Child processes: started with a log, kept alive, told from strangers, and ended without a rest."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from deployments.environment import MARK

BACKOFF_SECONDS = (0, 1, 2, 5, 10, 30)
STABLE_SECONDS = 60
KILL_SECONDS = 10
FLOW_RUN = "PREFECT__FLOW_RUN_ID"
LOG_BYTES = 20_000_000


class Child:
    """One command that is kept running: `keep` starts it, and starts it again, ever later, when it has ended."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path, fds: Sequence[int] = ()) -> None:
        self.log = log
        self._command = command
        self._environment = environment
        self._fds = fds
        self._failures = 0
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def keep(self) -> bool:
        """Start the process unless it runs or must wait for its turn; true if it was started."""
        if self.pid is not None:
            return False
        age = time.monotonic() - self._started
        if self._process is not None:
            if age > STABLE_SECONDS:
                self._failures = 0
            if age < BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]:
                return False
            self._failures += 1
        self._started = time.monotonic()
        with open_log(self.log) as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=self._fds,
                start_new_session=True,
            )
        return True


def open_log(path: Path) -> BinaryIO:
    """The log at `path`, to append to; a long one is put aside first, and the one put aside before is dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.rename(path.with_suffix(".old.log"))
    return path.open("ab")


def marked(home: Path) -> list[psutil.Process]:
    """Every process that a supervisor of `home` has started, or that those have started."""
    return [process for process in psutil.process_iter() if _environment(process).get(MARK) == str(home)]


def _environment(process: psutil.Process | None) -> dict[str, str]:
    try:
        return process.environ() if process and process.status() != psutil.STATUS_ZOMBIE else {}
    except psutil.Error:
        return {}


def drain(find: Callable[[], Iterable[psutil.Process]], seconds: float) -> None:
    """Ask the flow runs among the processes that `find` answers to end, and give them `seconds` for it.

    Their workers must not be asked before: a worker that ends kills the flow runs it hosts.
    """
    asked: set[psutil.Process] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (runs := {process for process in find() if _is_flow_run(process)}):
        for process in runs - asked:
            _signal(process, signal.SIGTERM)
        asked |= runs
        time.sleep(0.1)


def _is_flow_run(process: psutil.Process) -> bool:
    """Whether it is the process of a flow run, and not a child that such a process has."""
    try:
        parent = process.parent()
    except psutil.Error:
        return False
    return FLOW_RUN in _environment(process) and FLOW_RUN not in _environment(parent)


def end(found: Sequence[psutil.Process], seconds: float) -> None:
    """End processes: asked first, killed after `seconds`."""
    for process in found:
        _signal(process, signal.SIGTERM)
    for process in psutil.wait_procs(found, timeout=seconds)[1]:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(found, timeout=KILL_SECONDS)


def end_all(home: Path, seconds: float) -> None:
    """End every process of the platform of `home`, and those that it starts meanwhile."""
    while found := marked(home):
        end(found, seconds)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
