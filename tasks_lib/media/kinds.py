"""What a media file is by its first bytes, whatever its name says. It takes nothing but the file."""

from __future__ import annotations

from pathlib import Path

# Where each format has its mark, and the suffixes that files of it have.
_MARKS: tuple[tuple[int, bytes, tuple[str, ...]], ...] = (
    (0, b"\xff\xd8\xff", (".jpg", ".jpeg")),
    (0, b"\x89PNG\r\n\x1a\n", (".png",)),
    (8, b"WEBP", (".webp",)),
    (4, b"ftyp", (".mp4", ".mov", ".m4a")),
    (4, b"moov", (".mov",)),
    (4, b"mdat", (".mov",)),
    (4, b"wide", (".mov",)),
    (0, b"\x1a\x45\xdf\xa3", (".webm", ".mkv")),
    (8, b"WAVE", (".wav",)),
    (0, b"ID3", (".mp3",)),
    (0, b"\xff\xfb", (".mp3",)),
    (0, b"fLaC", (".flac",)),
    (0, b"OggS", (".ogg",)),
)
SUFFIXES = tuple(dict.fromkeys(suffix for _, _, suffixes in _MARKS for suffix in suffixes))
SOUND_SUFFIXES = (".m4a", ".wav", ".mp3", ".flac", ".ogg")


def suffixes_of(path: Path) -> tuple[str, ...]:
    """The suffixes that fit a file's content, the usual one first; none for what is no picture, clip or sound."""
    with path.open("rb") as file:
        start = file.read(16)
    return next((suffixes for place, mark, suffixes in _MARKS if start[place:].startswith(mark)), ())
