"""The weights of a model on disk, a folder or one file: how large they are, and which. It needs no torch."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def size_on_disk(place: Path) -> int:
    """Bytes of the weights of a folder or a file, near what they will take in memory."""
    return sum(path.stat().st_size for path in _files(place))


def digest(place: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and the SHA-256 of all its weight files, in the order of their
    names."""
    own = {path: _digest(path, path.stat().st_size, path.stat().st_mtime_ns) for path in _files(place)}
    if place in own:
        return own[place]
    lines = "".join(f"{path.relative_to(place).as_posix()} {found}\n" for path, found in own.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.safetensors"))


@cache
def _digest(path: Path, size: int, modified: int) -> str:  # noqa: ARG001  a changed file is another file
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
