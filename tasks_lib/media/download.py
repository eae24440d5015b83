"""Fetching what a user's URL points at: to public addresses only, within limits of size and time."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import httpcore2
import httpx2

from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.settings import get_settings

MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0

# IPv6 forms that carry an IPv4 address in their last 32 bits: NAT64, and the old compatible form.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
# Addresses of the open internet behind which a cloud answers its own machines: Azure's.
_CLOUD_SERVICES = {ipaddress.IPv4Address("168.63.129.16")}
_CARRIERS = [ipaddress.IPv6Network(prefix) for prefix in ("64:ff9b::/96", "::/96")]


def download(url: str, path: Path) -> None:
    """Copy what an http(s) URL gives to a file; what it is, whoever reads it finds by its content.

    Raises `TaskValidationError` for an address or size that is not allowed, and `EngineError` when it cannot
    be had. Their texts name the address without its query, which may hold a signature.
    """
    settings = get_settings()
    shown = url.partition("?")[0]
    until = time.monotonic() + settings.download_seconds
    timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx2.Client(
                transport=_transport(until),
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                timeout=timeout,
                trust_env=False,
                # Packed bytes could unfold to a thousand times their size.
                headers={"Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", url) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise TaskValidationError(f"`{shown}` comes packed, which was not asked for")
            for chunk in response.iter_bytes():
                file.write(chunk)
                if file.tell() > settings.download_bytes:
                    raise TaskValidationError(f"`{shown}` has more than {settings.download_bytes} bytes")
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        raise EngineError(f"`{shown}` answered {status}", retryable=status >= 500 or status == 429) from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise TaskValidationError(f"`{shown}` is not an http(s) URL: {error}") from None
    except httpx2.TooManyRedirects:
        raise EngineError(f"`{shown}` redirects more than {MAX_REDIRECTS} times") from None
    except httpx2.HTTPError as error:
        if time.monotonic() >= until:
            reason = f"took longer than {settings.download_seconds:g} seconds"
        else:
            reason = f"cannot be had: {str(error) or type(error).__name__}"
        raise EngineError(f"`{shown}` {reason}", retryable=True) from None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour
        if any(ip in network for network in _CARRIERS):
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
        if ip.is_site_local or ip.teredo is not None or ip in _LOCAL_NAT64:
            return False
    return ip.is_global and not ip.is_multicast and ip not in _CLOUD_SERVICES


@cache
def _ssl_context() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _transport(until: float) -> httpx2.HTTPTransport:
    # The environment's proxies are not used: they would resolve names out of our sight.
    transport = httpx2.HTTPTransport(verify=_ssl_context(), trust_env=False)
    use_network(transport, _PublicOnly(until))
    return transport


def use_network(transport: httpx2.HTTPTransport | httpx2.AsyncHTTPTransport, network: Any) -> None:
    """Have a transport open its connections by `network`, a network backend of httpcore2.

    Its check then sits where connections are opened, so redirects and names that change their address pass it too.
    httpx2 has no public way to say so. Raises `RuntimeError` where its private one has changed: without the check
    nothing may be fetched.
    """
    pool = getattr(transport, "_pool", None)
    if not isinstance(pool, httpcore2.ConnectionPool | httpcore2.AsyncConnectionPool) or not hasattr(
        pool, "_network_backend"
    ):
        raise RuntimeError("this version of httpx2 keeps its connections elsewhere: addresses cannot be checked")
    pool._network_backend = network


class _PublicOnly(httpcore2.SyncBackend):
    """Opens connections to public addresses, and to others only where the settings allow it."""

    def __init__(self, until: float) -> None:
        self._until = until

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise httpcore2.ConnectError(f"no address for {host}: {error}") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not get_settings().allow_private_urls and not all(is_public(address) for address in addresses):
            raise TaskValidationError(
                f"`{host}` is not a public address; UNITASK_ALLOW_PRIVATE_URLS=true allows private ones"
            )
        # To the very addresses that were checked: a second look-up could answer others.
        for address in addresses[:-1]:
            try:
                return self._connect(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connect(addresses[-1], port, timeout, local_address, socket_options)

    def _connect(self, address: str, port: int, timeout: float | None, *rest: Any) -> httpcore2.NetworkStream:
        stream = super().connect_tcp(address, port, _bounded(timeout, self._until), *rest)
        return _UntilThen(stream, self._until)


class _UntilThen(httpcore2.NetworkStream):
    """A connection that ends at a moment: a server that sends a byte now and then cannot hold it for longer."""

    def __init__(self, stream: httpcore2.NetworkStream, until: float) -> None:
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _bounded(timeout, self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _bounded(timeout, self._until))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        secure = self._stream.start_tls(ssl_context, server_hostname, _bounded(timeout, self._until))
        return _UntilThen(secure, self._until)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _bounded(timeout: float | None, until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the time is over")
    return left if timeout is None else min(timeout, left)
