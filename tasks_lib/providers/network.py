"""How connections to providers are opened: results from public addresses only, and all of them quick to look at."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore2

from tasks_lib.errors import ProviderError
from tasks_lib.media.download import is_public


class ResultGone(ProviderError):  # noqa: N818 - the name of an outcome
    """The job succeeded, and its result can never be had."""


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection that knows its socket.

    With every call the pool asks of each idle connection whether the other side has closed it. To get at the socket
    through anyio takes ten times as long as the answer.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            # Closed here: its number may be another's by now.
            return self._socket.fileno() < 0 or bool(self._poll.poll(0))
        return self._stream.get_extra_info(info)


class Network(httpcore2.AnyIOBackend):
    """Opens connections; with `public_only` to public addresses alone."""

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """The same, as a stream that knows its socket. Raises `ResultGone` for an address that is not public."""
        # To the very address that was checked: a second look-up could answer another one.
        address = await _public_address(host, port) if self._public_only else host
        return _Stream(await super().connect_tcp(address, port, timeout, local_address, socket_options))


async def _public_address(host: str, port: int) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise httpcore2.ConnectError(f"no address for {host}: {error.strerror}") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not all(map(is_public, addresses)):
        raise ResultGone(
            f"the result lies at `{host}`, which is not a public address; "
            "UNITASK_ALLOW_PRIVATE_URLS=true allows private ones"
        )
    return addresses[0]
