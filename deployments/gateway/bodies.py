"""What comes in by HTTP is bounded before anything reads it."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_BYTES = 32 << 20
"""Room for a batch of 10,000 requests."""


class BoundedBodies:
    """Ends a request with 413 once its body has passed `limit` bytes, whatever its headers said."""

    def __init__(self, app: ASGIApp, *, limit: int = REQUEST_BYTES, unbounded: str = "/media") -> None:
        self.app = app
        self.limit = limit
        self.unbounded = unbounded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count what is read of it."""
        if scope["type"] != "http" or scope["path"].endswith(self.unbounded):
            return await self.app(scope, receive, send)
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limit:
                raise HTTPException(413, f"a request has at most {self.limit} bytes; bring media by PUT .../media")
            return message

        return await self.app(scope, counted, send)
