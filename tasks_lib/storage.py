"""Where bytes go: one fsspec URL (`file://`, `s3://`, `gs://`, `memory://`), and the names under it.

A *key* is a path under that URL, built here and nowhere else: `<project>/uploads/<digest>.<ext>` for what people bring
and `<project>/<task>/<lease>/<name>` for what tasks make (a worker that lost its lease writes beside the winner).
A *reference* is how a request names an upload: `unitask://<key>`.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path, PurePosixPath
from typing import IO, cast
from uuid import UUID

import fsspec

from tasks_lib.crashpoints import crashpoint
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.settings import get_settings

SCHEME = "unitask://"
UPLOAD_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".mp4", ".mov", ".webm", ".mkv")


def upload_key(project_id: UUID, path: Path) -> str:
    """The key of a local file as an upload: the same bytes have the same key."""
    suffix = path.suffix.lower()
    if suffix not in UPLOAD_SUFFIXES:
        raise TaskValidationError(
            f"`{path.name}` is not a picture or clip by its name; allowed are {', '.join(UPLOAD_SUFFIXES)}", "path"
        )
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
    """Store a local file under a key; what is read there afterwards is the whole file or nothing."""
    filesystem, target = _locate(key)
    filesystem.makedirs(str(PurePosixPath(target).parent), exist_ok=True)
    # Under another name first: a reader, or a crash in the middle, never sees half a file, and two writers no mixture.
    partial = f"{target}.{secrets.token_hex(4)}.part"
    with path.open("rb") as source, cast(IO[bytes], filesystem.open(partial, "wb")) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    crashpoint("output.written")
    filesystem.mv(partial, target)
    crashpoint("output.stored")


def fetch(key: str, path: Path) -> None:
    """Copy what lies under a key to a local file. Raises `NotFoundError`."""
    filesystem, source = _locate(key)
    try:
        with cast(IO[bytes], filesystem.open(source, "rb")) as file, path.open("wb") as sink:
            shutil.copyfileobj(file, sink, 1 << 20)
    except FileNotFoundError:
        raise NotFoundError(f"there is nothing in storage under `{key}`") from None


def exists(key: str) -> bool:
    """Whether something lies under a key."""
    filesystem, path = _locate(key)
    return bool(filesystem.exists(path))


def url(key: str) -> str:
    """Where a key lies, as an fsspec URL."""
    return f"{get_settings().resolved_storage_url}/{key}"


def _locate(key: str) -> tuple[fsspec.AbstractFileSystem, str]:
    return cast("tuple[fsspec.AbstractFileSystem, str]", fsspec.core.url_to_fs(url(key)))
