"""Where bytes go: one fsspec URL (`file://`, `s3://`, `gs://`, `memory://`), and the names under it.

A *key* is a path under that URL, built here and nowhere else: `<project>/uploads/<digest>.<ext>` for what people bring
and `<project>/<task>/<lease>/<name>` for what tasks make (a worker that lost its lease writes beside the winner).
A *reference* is how a request names an upload: `unitask://<key>`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

import fsspec

from tasks_lib.crashpoints import crashpoint
from tasks_lib.errors import NotFoundError, StorageError, TaskValidationError
from tasks_lib.media import kinds
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Somebody makes room, or a server comes back: what was made so far is worth waiting for that.
PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH}
)
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0

SCHEME = "unitask://"


def upload_key(project_id: UUID, path: Path) -> str:
    """The key of a local file as an upload: the same bytes have the same key, with a suffix that fits its content.

    Raises `TaskValidationError` for what is no picture, clip or sound, by its name or by its content.
    """
    suffix = path.suffix.lower()
    if suffix not in kinds.SUFFIXES:
        allowed = ", ".join(kinds.SUFFIXES)
        raise TaskValidationError(
            f"`{path.name}` is not a picture, clip or sound by its name; allowed are {allowed}", "path"
        )
    fitting = kinds.suffixes_of(path)
    if not fitting:
        raise TaskValidationError(f"`{path.name}` is not a picture, clip or sound by its content", "path")
    if suffix not in fitting:
        suffix = fitting[0]
    with path.open("rb") as file:
        return f"{project_id}/uploads/{hashlib.file_digest(file, 'sha256').hexdigest()}{suffix}"


def output_key(project_id: UUID, task_id: UUID, lease_id: int, name: str) -> str:
    """The key of something that a task makes under one lease."""
    return f"{project_id}/{task_id}/{lease_id}/{PurePosixPath(name).name}"


def reference(key: str) -> str:
    """How requests name what lies under a key."""
    return f"{SCHEME}{key}"


def key_of(reference: str, project_id: UUID) -> str:
    """The key behind a reference. One that points out of the project is answered as a missing one."""
    key = reference.removeprefix(SCHEME)
    parts = PurePosixPath(key).parts
    if not parts or parts[0] != str(project_id) or ".." in parts or str(PurePosixPath(*parts)) != key:
        raise NotFoundError(f"there is no upload `{reference}`")
    return key


def put(path: Path, key: str) -> None:
    """Store a local file under a key; what is read there afterwards is the whole file or nothing.

    Waits for room in a full storage. Raises `StorageError` when `storage_seconds` are over.
    """
    _in_time(partial(_put, path, key), f"store `{key}`")


def fetch(key: str, path: Path) -> None:
    """Copy what lies under a key to a local file. Raises `NotFoundError` and `StorageError`."""
    try:
        _in_time(partial(_fetch, key, path), f"fetch `{key}`")
    except FileNotFoundError:
        raise NotFoundError(f"there is nothing in storage under `{key}`") from None


def exists(key: str) -> bool:
    """Whether something lies under a key. Raises `StorageError`."""
    filesystem, path = _locate(key)
    return bool(_in_time(partial(filesystem.exists, path), f"look for `{key}`"))


def _put(path: Path, key: str) -> None:
    filesystem, target = _locate(key)
    filesystem.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
    # Under another name first: a reader, or a crash in the middle, never sees half a file, and two writers no mixture.
    unfinished = f"{target}.{secrets.token_hex(4)}.part"
    try:
        with path.open("rb") as source, cast(IO[bytes], filesystem.open(unfinished, "wb")) as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except OSError:
        # Half a file would keep a full disk full.
        with contextlib.suppress(OSError):
            filesystem.rm_file(unfinished)
        raise
    crashpoint("output.written")
    filesystem.mv(unfinished, target)
    crashpoint("output.stored")


def _fetch(key: str, path: Path) -> None:
    filesystem, source = _locate(key)
    with cast(IO[bytes], filesystem.open(source, "rb")) as file, path.open("wb") as sink:
        shutil.copyfileobj(file, sink, 1 << 20)


def _in_time(call: Callable[[], T], what: str) -> T:
    """Call storage, again while that may help, within `storage_seconds`. A missing file is the caller's to explain."""
    end = time.monotonic() + get_settings().storage_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return _answer(call, end, what)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in PASSING or time.monotonic() + pause > end:
                raise StorageError(f"cannot {what}: {error.strerror or error}") from error
            logger.warning("cannot %s for the moment: %s", what, error)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _answer(call: Callable[[], T], end: float, what: str) -> T:
    """Call in a thread that is left behind when it does not come back: a storage that hangs must not hold a task."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=run, name="storage", daemon=True).start()
    if not wait([answer], max(0.0, end - time.monotonic())).done:
        raise StorageError(f"cannot {what}: no answer in {get_settings().storage_seconds:g} seconds")
    return answer.result()


def url(key: str) -> str:
    """Where a key lies, as an fsspec URL."""
    return f"{get_settings().resolved_storage_url}/{key}"


def public_url(key: str, seconds: float) -> str:
    """Where a browser finds a key: under `public_media_url`, or signed by the storage for so many seconds.

    A local folder gives its `file://` URL. Raises `StorageError` for a storage that can do neither.
    """
    if base := get_settings().public_media_url:
        return f"{base.rstrip('/')}/{quote(key)}"
    if signed := signed_url(key, seconds):
        return signed
    if url(key).startswith("file://"):
        return url(key)
    raise StorageError(f"`{url('')}` signs no URLs: set UNITASK_PUBLIC_MEDIA_URL")


def signed_url(key: str, seconds: float) -> str | None:
    """A URL by which anybody can read the file for so many seconds; None where the storage signs none."""
    filesystem, path = _locate(key)
    try:
        return str(filesystem.sign(path, expiration=round(seconds)))
    except NotImplementedError:  # how fsspec says that a storage cannot
        return None


@dataclass(frozen=True)
class StoredFile:
    """A file of a task, by its key's parts; `bytes` is its size."""

    key: str
    task: str
    lease: str
    bytes: int


def project_folders() -> list[str]:
    """The folders of projects, by their ids; whatever else lies in the storage is not ours."""
    filesystem, root = _locate("")
    try:
        names = [PurePosixPath(name.rstrip("/")).name for name in filesystem.ls(root, detail=False)]
    except FileNotFoundError:
        return []
    return [name for name in names if _is_id(name)]


def task_files(project: str) -> list[StoredFile]:
    """All that tasks of a project have stored; uploads are not among it."""
    filesystem, root = _locate("")
    found = filesystem.find(f"{root.rstrip('/')}/{project}", detail=True)
    files = []
    for name, info in cast("dict[str, dict[str, Any]]", found).items():
        key = name.removeprefix(root.rstrip("/")).lstrip("/")
        parts = PurePosixPath(key).parts
        if len(parts) == 4 and _is_id(parts[1]):
            files.append(StoredFile(key, parts[1], parts[2], int(info.get("size") or 0)))
    return files


def age(key: str) -> timedelta | None:
    """How long ago a file was written; None when it is gone."""
    filesystem, path = _locate(key)
    try:
        modified = cast(datetime, filesystem.modified(path))
    except FileNotFoundError:
        return None
    return datetime.now(UTC) - (modified if modified.tzinfo else modified.replace(tzinfo=UTC))


def remove(key: str) -> None:
    """Delete a file, and the folders above it that are empty then."""
    filesystem, path = _locate(key)
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm_file(path)
    # Not empty, or a storage that has no folders.
    with contextlib.suppress(OSError, NotImplementedError):
        for folder in list(PurePosixPath(path).parents)[:2]:
            filesystem.rmdir(str(folder))


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def _locate(key: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        return cast("tuple[fsspec.AbstractFileSystem, str]", fsspec.core.url_to_fs(url(key)))
    except (ValueError, ImportError) as error:  # no such scheme, or its driver is not installed
        raise StorageError(f"UNITASK_STORAGE_URL cannot be used: {error}") from None
