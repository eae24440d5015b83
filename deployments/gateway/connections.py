"""Connections that say nothing do not last: neither those that open and wait, nor those that come byte by byte."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the connection, or the last answer, to the end of the next request's head."""
MOST = 1000
"""Connections at once; for a new one, one that has no request is closed."""


class BoundedConnection(H11Protocol):
    """Uvicorn's own, with a limit on how long and how many connections may be without a request."""

    _ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, and begin to wait for a request."""
        if len(self.connections) >= MOST:
            idle = (other for other in self.connections if isinstance(other, BoundedConnection) and other.is_idle)
            leaving = next(idle, None)
            (transport if leaving is None else leaving.transport).abort()
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether there is no request that is being answered."""
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        return cycle is None or bool(cycle.response_complete)

    def _await_request(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self.loop.call_later(HEAD_SECONDS, self._end)

    def _end(self) -> None:
        if self.is_idle and not self.transport.is_closing():
            self.transport.abort()
