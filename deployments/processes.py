"""Child processes: started with a log, kept alive, told from strangers, and ended without a rest."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from deployments.environment import MARK

BACKOFF_SECONDS = (0, 1, 2, 5, 10, 30)
STABLE_SECONDS = 60
KILL_SECONDS = 10
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
    return [process for process in psutil.process_iter() if _mark(process) == str(home)]


def _mark(process: psutil.Process) -> str | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(MARK)
    except psutil.Error:
        return None


def end(home: Path, seconds: float) -> None:
    """End every process of the platform of `home`: asked first, killed after `seconds`."""
    asked = marked(home)
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(asked, timeout=seconds)
    # Listed again: one that was asked may have started another meanwhile.
    while left := marked(home):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=KILL_SECONDS)


def drain(workers: Sequence[int], seconds: float) -> None:
    """End Prefect workers and the flow runs that they host, which have `seconds` to finish what they do.

    A worker that is asked to end takes no new runs and waits for those it has, but does not tell them.
    """
    found = [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)]
    asked: set[psutil.Process] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (alive := _alive(found)):
        for process in alive - asked:
            with suppress(psutil.NoSuchProcess):
                process.terminate()  # only once: a worker takes the second for a kill
        asked |= alive
        time.sleep(0.1)


def _alive(workers: Sequence[psutil.Process]) -> set[psutil.Process]:
    family = set()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            family |= {worker, *worker.children()}
    return {process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE}
