"""What an adapter of a provider is: how a job is submitted, looked at and cancelled over HTTP. It keeps nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import quote

from tasks_lib.errors import AuthenticationError
from tasks_lib.providers.http import Ambiguous, Http

State = Literal["running", "succeeded", "failed", "cancelled", "lost"]
# As both providers advise.
WEBHOOK_SECONDS = 300
_JOB_ID = re.compile(r"[\w.-]{1,200}")


@dataclass(frozen=True)
class Work:
    """What a provider is asked to do: one of its models, and the input as that model documents it."""

    model: str
    input: Mapping[str, Any]
    files: frozenset[str] = frozenset()
    """Keys of the input whose values are our own files, which are written another way with every submission."""
    notes: tuple[str, ...] = ()
    """What of the request the model cannot take."""


@dataclass(frozen=True)
class Status:
    """How a job is. `seconds` and `cost` (dollars) are the provider's own words, where it has any yet."""

    state: State
    output: Any = None
    """What the model answered, when it succeeded."""
    error: str | None = None
    retryable: bool = False
    """For a job that failed: whether another may succeed."""
    message: str | None = None
    seconds: float | None = None
    cost: float | None = None


class Adapter(Protocol):
    """One provider. Every method raises `ProviderError`; `submit` also `Ambiguous`, see `Http.submit`."""

    name: ClassVar[str]

    async def submit(self, http: Http, work: Work, key: str, webhook: str | None) -> str:
        """Start a job and answer the provider's id of it."""

    async def upload(self, http: Http, path: Path, kind: str) -> str | None:
        """Give the provider a file of a content type; answer where its models read it, None if it takes no files."""

    async def find(self, http: Http, work: Work, since: datetime, taken: set[str]) -> str | None:
        """The id of a job that was submitted so since then and is none of those that are known; None if there is none.

        Raises `Ambiguous` when it cannot tell.
        """

    async def status(self, http: Http, model: str, job_id: str) -> Status:
        """How a job is now; with its output when it has succeeded."""

    async def cancel(self, http: Http, model: str, job_id: str) -> None:
        """Ask for a job to be cancelled. One that has ended, or that nobody knows, needs none."""

    async def signing_keys(self, http: Http) -> Sequence[Any]:
        """The keys that the account's webhooks are signed with now."""

    def job_of(self, keys: Sequence[Any], headers: Mapping[str, str], body: bytes) -> str:
        """The id of the job that a webhook is about.

        Raises `AuthenticationError` unless it was signed with one of the keys, and lately; see `require_recent`.
        """


def require_recent(timestamp: str) -> None:
    """Refuse a webhook that was not signed within the last minutes (seconds since 1970): somebody may send it again."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > WEBHOOK_SECONDS:
        raise AuthenticationError("the webhook is too old, or its clock is wrong")


def named_job(body: bytes, name: str) -> str:
    """The id of a job in a webhook's JSON. Raises `AuthenticationError` for anything else."""
    try:
        job_id = json.loads(body)[name]
    except (ValueError, KeyError, TypeError):
        raise AuthenticationError("the webhook names no job") from None
    return str(job_id)


def in_path(job_id: Any) -> str:
    """A provider's id of a job, fit for a URL. Raises `Ambiguous` for anything else that it answered."""
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id) or not job_id.strip("."):
        raise Ambiguous("the provider answered no usable id of the job")
    return quote(job_id)


def number(value: Any) -> float | None:
    """A number that a provider may have said."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
