"""Batches from lists: rows of a JSONL or CSV file, or images of a folder. What is valid is created, the rest named."""

from __future__ import annotations

import csv
import glob
import itertools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TextIO, cast
from uuid import UUID

import fsspec
from pydantic import SecretStr

from tasks_lib.auth import authenticate
from tasks_lib.client import upload_media
from tasks_lib.creation import MAX_BATCH, public_type, store, validate
from tasks_lib.errors import NotFoundError, Refusal, TaskError, TaskValidationError
from tasks_lib.media import kinds
from tasks_lib.media.download import download
from tasks_lib.settings import get_settings

MAX_LINE_CHARACTERS = 2_000_000
MAX_LIST_CHARACTERS = 64_000_000

Token = str | SecretStr | None
Item = dict[str, Any]


@dataclass(frozen=True)
class BatchReport:
    """What became of the rows of a batch; the places in `refused` are those of the rows as they were given."""

    created: tuple[UUID, ...]
    already_there: tuple[UUID, ...]
    refused: tuple[Refusal, ...]

    def summary(self) -> str:
        """Return the numbers in one line; where nothing was stored, with the first reason."""
        counts = ("created", self.created), ("already there", self.already_there), ("refused", self.refused)
        numbers = ", ".join(f"{len(rows)} {name}" for name, rows in counts)
        if self.refused and not (self.created or self.already_there):
            return f"{numbers}; row {self.refused[0].index}: {self.refused[0].message}"
        return numbers


def create_all(
    requests: Sequence[Mapping[str, Any]], *, token: Token = None, made_by_run_id: UUID | None = None
) -> BatchReport:
    """Create all rows of a batch in one transaction, or none and an error that names every refused row."""
    caller = authenticate(token)
    answers = store(validate(requests), caller, made_by_run_id=made_by_run_id)
    return BatchReport(
        tuple(answer.task_id for answer in answers if answer.created),
        tuple(answer.task_id for answer in answers if not answer.created),
        (),
    )


def create_what_is_valid(
    requests: Sequence[Mapping[str, Any]], *, token: Token = None, made_by_run_id: UUID | None = None
) -> BatchReport:
    """Create the rows of a batch that can be created, in one transaction, and report the others.

    Raises what concerns all rows: `AuthenticationError`, `RateLimitError`, `InsufficientCreditsError`.
    """
    if len(requests) > MAX_BATCH:
        raise TaskValidationError(f"a batch has 1 to {MAX_BATCH} tasks, not {len(requests)}", "requests")
    left = list(enumerate(requests))
    refused: list[Refusal] = []
    while left:
        try:
            report = create_all([request for _, request in left], token=token, made_by_run_id=made_by_run_id)
        except TaskError as error:
            if not error.refusals:
                raise
            refused += [replace(refusal, index=left[refusal.index][0]) for refusal in error.refusals]
            wrong = {refusal.index for refusal in error.refusals}
            left = [row for place, row in enumerate(left) if place not in wrong]
        else:
            return replace(report, refused=_in_order(refused))
    return BatchReport((), (), _in_order(refused))


def _in_order(refused: list[Refusal]) -> tuple[Refusal, ...]:
    return tuple(sorted(refused, key=lambda refusal: refusal.index))


def read_items(path: Path, task_type: str) -> list[Item]:
    """The rows of a file: JSON objects by line (`.jsonl`), or a table whose head names the parameters (`.csv`).

    A cell is taken as text where its parameter takes text, and as JSON elsewhere; an empty one is left out.
    """
    suffix = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as file:
            if suffix not in (".jsonl", ".csv"):
                raise TaskValidationError(f"`{path.name}` must be a .jsonl or .csv file", "items")
            lines = _lines(file, path.name)
            items = _from_csv(lines, task_type) if suffix == ".csv" else _from_jsonl(lines, path.name)
            # One more than is allowed is read of a file of any length, and no more.
            found = list(itertools.islice(items, MAX_BATCH + 1))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise TaskValidationError(f"`{path.name}` cannot be read: {reason}", "items") from None
    if len(found) > MAX_BATCH:
        raise TaskValidationError(f"`{path.name}` has more than {MAX_BATCH} rows", "items")
    return found


def _lines(file: TextIO, name: str) -> Iterator[str]:
    total = 0
    while line := file.readline(MAX_LINE_CHARACTERS + 1):
        total += len(line)
        if len(line) > MAX_LINE_CHARACTERS or total > MAX_LIST_CHARACTERS:
            raise TaskValidationError(
                f"`{name}` is too long: {MAX_LIST_CHARACTERS} characters, {MAX_LINE_CHARACTERS} a line", "items"
            )
        yield line


def fetch_items(url: str, task_type: str) -> list[Item]:
    """As `read_items`, from an http(s) URL or from a place that UNITASK_BATCH_URLS allows."""
    name = PurePosixPath(url.partition("?")[0]).name or "items"
    with tempfile.TemporaryDirectory(prefix="unitask-") as folder:
        path = Path(folder) / name
        if url.startswith(("http://", "https://")):
            download(url, path)
        else:
            filesystem, source = _allowed(url)
            try:
                if (filesystem.size(source) or 0) > 4 * MAX_LIST_CHARACTERS:
                    raise TaskValidationError(f"`{url}` has more than {MAX_LIST_CHARACTERS} characters", "items")
                filesystem.get_file(source, str(path))
            except FileNotFoundError:
                raise NotFoundError(f"there is nothing at `{url}`") from None
        return read_items(path, task_type)


def upload_folder(pattern: str, *, project_id: UUID | str, token: Token = None) -> list[str]:
    """Bring every picture and clip whose URL matches a pattern (`s3://bucket/in/*.png`), and answer the references.

    They are in the order of their names; the same bytes are stored once. UNITASK_BATCH_URLS must allow the place.
    """
    filesystem, _ = _allowed(pattern)
    found = find_images(pattern)
    references = []
    with tempfile.TemporaryDirectory(prefix="unitask-") as folder:
        for path in found:
            local = Path(folder) / PurePosixPath(path).name
            filesystem.get_file(path, str(local))
            references.append(upload_media(local, project_id=project_id, token=token))
            local.unlink()
    return references


def find_images(pattern: str) -> list[str]:
    """The pictures and clips whose URL matches a pattern, in the order of their names; there may be none yet."""
    filesystem, source = _allowed(pattern)
    seen = tuple(suffix for suffix in kinds.SUFFIXES if suffix not in kinds.SOUND_SUFFIXES)
    found = sorted(path for path in filesystem.glob(source) if path.lower().endswith(seen))
    if len(found) > MAX_BATCH:
        raise TaskValidationError(f"`{pattern}` matches {len(found)} files; at most {MAX_BATCH} are taken", "images")
    for path in found:
        _require_inside(filesystem, path, path)
    return found


def _allowed(url: str) -> tuple[Any, str]:
    prefixes = get_settings().batch_urls
    # A place ends at a slash, or `in` would allow `in-secret`; and `::` would put another file system in its stead.
    place = next((p for p in prefixes if f"{url}/".startswith(f"{p.rstrip('/')}/")), None)
    if place is None or ".." in url or "::" in url:
        raise _nowhere(url)
    filesystem, source = cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    if not glob.has_magic(source):
        _require_inside(filesystem, source, url)
    return filesystem, source


def _require_inside(filesystem: Any, source: str, url: str) -> None:
    """Refuse a local file that is a link out of the places that are allowed."""
    if "file" not in filesystem.protocol:
        return
    places = [fsspec.core.url_to_fs(place) for place in get_settings().batch_urls]
    folders = [Path(path).resolve() for system, path in places if "file" in system.protocol]
    if not any(Path(source).resolve().is_relative_to(folder) for folder in folders):
        raise _nowhere(url)


def _nowhere(url: str) -> TaskValidationError:
    allowed = ", ".join(get_settings().batch_urls) or "none"
    return TaskValidationError(f"`{url}` is in no place that UNITASK_BATCH_URLS allows (now: {allowed})", "items")


def _from_jsonl(lines: Iterator[str], name: str) -> Iterator[Item]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except ValueError as error:
            raise TaskValidationError(f"line {number} of `{name}` is not JSON: {error}", "items") from None
        if not isinstance(item, dict):
            raise TaskValidationError(f"line {number} of `{name}` must be a JSON object", "items")
        yield item


def _from_csv(lines: Iterator[str], task_type: str) -> Iterator[Item]:
    model = public_type(task_type).params

    def value(name: str, cell: str) -> Any:
        try:
            model.check_some({name: cell})
        except TaskValidationError:
            try:
                return json.loads(cell)
            except ValueError:
                pass
        return cell

    rows = csv.DictReader(lines)
    if rows.fieldnames is None or "" in rows.fieldnames or len(set(rows.fieldnames)) < len(rows.fieldnames):
        raise TaskValidationError("the first line of a table names the parameters, each once", "items")
    for row in rows:
        if None in row:
            raise TaskValidationError(f"line {rows.line_num} of the table has more cells than its head", "items")
        yield {name: value(name, cell) for name, cell in row.items() if cell}
