"""What runs: the file `<home>/run.json`, and the lock whose holder is the supervisor."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks_lib.settings import get_settings


@dataclass(frozen=True)
class RunState:
    """The platform as its supervisor last saw it; `pids` has a name for each process."""

    prefect_api_url: str
    prefect_ui_url: str
    database_url: str
    pids: dict[str, int]
    ready: bool


def resolve_home(home: Path | None = None) -> Path:
    """The home folder in force, `UNITASK_HOME` unless given."""
    return (home or get_settings().home).expanduser().resolve()


def state(home: Path | None = None) -> RunState | None:
    """What runs under `home`; nothing if no supervisor lives. Its pid is never asked: it may be another's by now."""
    home = resolve_home(home)
    try:
        with (home / "supervisor.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _read(home)
    return None


def _read(home: Path) -> RunState | None:
    try:
        return RunState(**json.loads((home / "run.json").read_text()))
    except FileNotFoundError:
        return None


def write(home: Path, run: RunState) -> None:
    """Store `run` in one step, readable by its owner only: the database's URL may hold a password."""
    new = home / "run.json.new"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(run), file, indent=2)
    new.replace(home / "run.json")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock at `path` and hold it; the kernel frees that of a killed process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
