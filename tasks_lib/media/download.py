"""Fetching what a user's URL points at: to public addresses only, within limits of size and time."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore
import httpx

from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.settings import get_settings

MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0


def download(url: str, path: Path) -> None:
    """Copy what an http(s) URL gives to a file.

    Raises `TaskValidationError` for an address or size that is not allowed, and `EngineError` when it cannot be had.
    """
    settings = get_settings()
    until = time.monotonic() + settings.download_seconds
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx.Client(
                transport=_transport(), follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=timeout
            ) as client,
            client.stream("GET", url) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
                if file.tell() > settings.download_bytes:
                    raise TaskValidationError(f"`{url}` has more than {settings.download_bytes} bytes")
                if time.monotonic() > until:
                    raise EngineError(f"`{url}` took longer than {settings.download_seconds} seconds", retryable=True)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise EngineError(f"`{url}` answered {status}", retryable=status >= 500 or status == 429) from None
    except httpx.InvalidURL as error:
        raise TaskValidationError(f"`{url}` is not a URL: {error}") from None
    except httpx.HTTPError as error:
        raise EngineError(f"`{url}` cannot be had: {str(error) or type(error).__name__}", retryable=True) from None


def _transport() -> httpx.HTTPTransport:
    # The environment's proxies are not used: they would resolve names out of our sight.
    transport = httpx.HTTPTransport(trust_env=False)
    # The check sits where connections are opened, so redirects and names that change their address pass it too.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=httpx.create_ssl_context(), network_backend=_PublicOnly(), max_connections=4
    )
    return transport


class _PublicOnly(httpcore.SyncBackend):
    """Opens connections to public addresses, and to others only where the settings allow it."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise httpcore.ConnectError(f"no address for {host}: {error.strerror}") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not get_settings().allow_private_urls and not all(ipaddress.ip_address(a).is_global for a in addresses):
            raise TaskValidationError(
                f"`{host}` is not a public address; UNITASK_ALLOW_PRIVATE_URLS=true allows private ones"
            )
        # To the very address that was checked: a second look-up could answer another one.
        return super().connect_tcp(addresses[0], port, timeout, local_address, socket_options)
