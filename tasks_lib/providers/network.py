"""Opening connections to where results lie: to public addresses only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any

import httpcore2

from tasks_lib.errors import ProviderError
from tasks_lib.media.download import is_public


class ResultGone(ProviderError):  # noqa: N818 - the name of an outcome
    """The job succeeded, and its result can never be had."""


class PublicNetwork(httpcore2.AnyIOBackend):
    """Opens connections to public addresses alone."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the signature is httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect. Raises `ResultGone` for an address that is not public."""
        # To the very address that was checked: a second look-up could answer another one.
        address = await _public_address(host, port)
        return await super().connect_tcp(address, port, timeout, local_address, socket_options)


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
