"""The one HTTP client of all providers: limits of time and size, retries, and errors that carry no credential.

A call is repeated only where that cannot make a second job: whatever was never sent or was turned away (429, 503), and
reads, which change nothing. A submission whose answer is lost is `Ambiguous`.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr

from tasks_lib.errors import ProviderError, RateLimitError
from tasks_lib.media.download import use_network
from tasks_lib.providers.network import PublicNetwork, ResultGone
from tasks_lib.settings import Settings, get_settings

TRIES = 4
CONNECT_SECONDS = 10
ANSWER_BYTES = 16 << 20
LONGEST_PAUSE = 3600.0
# As many as jobs are looked at or submitted at once; a new one costs a handshake.
IDLE_CONNECTIONS = 64
# The server turned the request away before doing anything with it.
TURNED_AWAY = (429, 503)


class Ambiguous(Exception):  # noqa: N818 - the name of an outcome, not of a fault
    """A submission was sent and no good answer came: nobody knows whether there is a job."""


def _timeout(settings: Settings) -> httpx2.Timeout:
    # A provider that is silent for half of a call's time will hardly answer in the other half.
    return httpx2.Timeout(settings.provider_call_seconds / 2, connect=CONNECT_SECONDS)


@dataclass(frozen=True)
class Answer:
    """A complete HTTP answer; `body` is its JSON, or None."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return self.status < 300

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body where it is an object, else nothing."""
        return self.body if isinstance(self.body, dict) else {}


class Http:
    """A provider's API under one base URL, with its key; `authorization` is the scheme that it wants (Bearer, Key)."""

    def __init__(self, base_url: str, key: SecretStr, authorization: str, settings: Settings | None = None) -> None:
        self._settings = settings or get_settings()
        self._client = httpx2.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"{authorization} {key.get_secret_value()}"},
            timeout=_timeout(self._settings),
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=IDLE_CONNECTIONS),
            # A redirect would carry the key to wherever it points.
            follow_redirects=False,
        )
        self._name = urlsplit(base_url).netloc
        self._key = key

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def submit(self, path: str, body: Any, *, headers: Mapping[str, str], params: Mapping[str, str]) -> Answer:
        """POST what makes a job. Raises `Ambiguous` unless it is certain whether one was made.

        The last try begins within `provider_call_seconds`: whoever looks for a lost submission counts on that.
        """
        last = time.monotonic() + self._settings.provider_call_seconds
        for attempt in range(1, TRIES + 1):
            try:
                answer, pause = await self._call("POST", path, json=body, headers=dict(headers), params=dict(params))
            except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
                await self._before_next_try(attempt, error, last)
                continue
            except (httpx2.HTTPError, TimeoutError) as error:
                raise Ambiguous(f"{self._name} gave no answer to the submission ({type(error).__name__})") from None
            if answer.status in TURNED_AWAY:
                await self._turned_away(attempt, answer.status, pause, last)
                continue
            if answer.status >= 500 or answer.body is None:
                raise Ambiguous(f"{self._name} answered the submission with {answer.status} and no job")
            return answer
        raise AssertionError("unreachable")

    async def upload(self, path: str, name: str, file: Path, kind: str) -> Answer:
        """POST a file as one field of a form. It may take as long as a download, and may be repeated."""
        with file.open("rb") as content:
            form = {name: (file.name, content, kind)}
            return await self.request("POST", path, seconds=self._settings.download_seconds, files=form)

    async def request(self, method: str, path: str, seconds: float | None = None, **rest: Any) -> Answer:
        """A call that may be repeated: a look at a job, or a cancellation. Answers what it said below 500."""
        for attempt in range(1, TRIES + 1):
            try:
                answer, pause = await self._call(method, path, seconds, **rest)
            except (httpx2.HTTPError, TimeoutError) as error:
                await self._before_next_try(attempt, error)
                continue
            if answer.status in TURNED_AWAY:
                await self._turned_away(attempt, answer.status, pause)
                continue
            if answer.status >= 500 or (answer.ok and answer.body is None and method == "GET"):
                await self._before_next_try(attempt, f"it answered {answer.status}")
                continue
            return answer
        raise AssertionError("unreachable")

    async def _call(
        self, method: str, path: str, seconds: float | None = None, **rest: Any
    ) -> tuple[Answer, float | None]:
        async with (
            asyncio.timeout(seconds or self._settings.provider_call_seconds),
            self._client.stream(method, path, **rest) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    raise httpx2.DecodingError(f"more than {ANSWER_BYTES} bytes")
            try:
                # What a provider says may end in an error's text; some repeat the key that they refuse.
                parsed = json.loads(body.replace(self._key.get_secret_value().encode(), b"***"))
            except ValueError:
                parsed = None
            return Answer(response.status_code, parsed), retry_after(response.headers.get("retry-after"))

    async def _turned_away(self, attempt: int, status: int, pause: float | None, last: float = float("inf")) -> None:
        wait = pause if pause is not None else _back_off(attempt)
        most = min(self._settings.provider_wait_seconds, last - time.monotonic())
        if attempt == TRIES or wait > most:
            raise RateLimitError(f"{self._name} takes no calls now ({status})", min(wait, LONGEST_PAUSE))
        await asyncio.sleep(wait * random.uniform(1, 1.1))

    async def _before_next_try(self, attempt: int, reason: Exception | str, last: float = float("inf")) -> None:
        wait = _back_off(attempt)
        if attempt == TRIES or time.monotonic() + wait > last:
            # Only the kind of the error: texts of libraries may quote URLs and headers.
            what = reason if isinstance(reason, str) else type(reason).__name__
            raise ProviderError(f"{self._name} cannot be reached: {what}", retryable=True)
        await asyncio.sleep(wait)


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, given in seconds or as a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _back_off(attempt: int) -> float:
    return float(0.5 * 2**attempt * random.uniform(0.5, 1))


class Downloads:
    """Fetches results from public addresses within limits of size and time; it knows no key."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or get_settings()
        limits = httpx2.Limits(max_connections=50, max_keepalive_connections=IDLE_CONNECTIONS)
        transport = httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)
        if not self._settings.allow_private_urls:
            use_network(transport, PublicNetwork())
        self._client = httpx2.AsyncClient(
            transport=transport,
            follow_redirects=True,
            max_redirects=5,
            timeout=_timeout(self._settings),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def fetch(self, url: str, path: Path) -> None:
        """Copy a result to a file. Raises `ProviderError`; `retryable` unless it is gone, refused or too large."""
        for attempt in range(1, TRIES + 1):
            try:
                async with asyncio.timeout(self._settings.download_seconds):
                    return await self._fetch(url, path)
            except TimeoutError:
                raise ProviderError(
                    f"the result took longer than {self._settings.download_seconds} seconds to fetch", retryable=True
                ) from None
            except httpx2.HTTPStatusError as error:
                status = error.response.status_code
                if status < 500 and status not in TURNED_AWAY:
                    raise ResultGone(f"the result cannot be had any more: its address answered {status}") from None
                reason = str(status)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                reason = type(error).__name__
            if attempt < TRIES:
                await asyncio.sleep(_back_off(attempt))
        raise ProviderError(f"the result cannot be fetched for the moment: {reason}", retryable=True)

    async def _fetch(self, url: str, path: Path) -> None:
        async with self._client.stream("GET", url) as response:
            response.raise_for_status()
            with path.open("wb") as file:
                async for chunk in response.aiter_bytes():
                    file.write(chunk)
                    if file.tell() > self._settings.download_bytes:
                        raise ResultGone(f"the result has more than {self._settings.download_bytes} bytes")
