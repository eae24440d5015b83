"""The weight files of a model on disk: how large they are, and which they are. It needs no torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def size_on_disk(folder: Path) -> int:
    """Bytes of the weights of a folder, near what they will take in memory."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def digest(folder: Path) -> str:
    """SHA-256 over the names and the SHA-256 of all weight files of a folder, in the order of their names."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        facts = path.stat()
        own = _digest(path, facts.st_size, facts.st_mtime_ns)
        whole.update(f"{path.relative_to(folder).as_posix()} {own}\n".encode())
    return whole.hexdigest()


@cache
def _digest(path: Path, size: int, modified: int) -> str:  # noqa: ARG001  a changed file is another file
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
