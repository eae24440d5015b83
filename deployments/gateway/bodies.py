"""What comes in by HTTP is bounded, in bytes and in time, before anything reads it; and so is the time of answers."""

from __future__ import annotations

import asyncio
import time

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks_lib.client import MAX_UPLOAD_BYTES

REQUEST_BYTES = 32 << 20
"""Room for a batch of 10,000 requests."""
REQUEST_SECONDS = 20.0
UPLOAD_SECONDS = 900.0
SILENT_SECONDS = 15.0
"""For which a body may bring nothing, and an answer may not be taken."""
DISCARDED_BYTES = 64 << 10
"""What was not read of a body that is no longer than this is thrown away; with a longer one the connection ends."""


class BoundedBodies:
    """Ends a request with 413 once its body has passed its limit, whatever its headers said, and with 408 in time."""

    def __init__(self, app: ASGIApp, *, limit: int = REQUEST_BYTES, files: str = "/media") -> None:
        self.app = app
        self.limit = limit
        self.files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count what is read of it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        is_file = scope["path"].endswith(self.files)
        limit, seconds = (MAX_UPLOAD_BYTES, UPLOAD_SECONDS) if is_file else (self.limit, REQUEST_SECONDS)
        headers = Headers(scope=scope)
        declared = int(headers.get("content-length") or 0)
        taken, complete = 0, not declared and "transfer-encoding" not in headers
        end = time.monotonic() + seconds

        async def counted() -> Message:
            nonlocal taken, complete
            if complete:
                return await receive()
            if max(taken, declared) > limit:
                raise HTTPException(413, f"at most {limit} bytes are taken here; bring media by PUT .../media")
            try:
                async with asyncio.timeout(min(SILENT_SECONDS, end - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request does not come to its end in time") from None
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, f"at most {limit} bytes are taken here; bring media by PUT .../media")
            if take := scope.get("state", {}).get("take"):
                take(len(message.get("body", b"")))
            complete = not message.get("more_body", False)
            return message

        async def bounded(message: Message) -> None:
            unread = not complete and (declared > DISCARDED_BYTES or "transfer-encoding" in headers)
            if message["type"] == "http.response.start" and unread:
                MutableHeaders(scope=message)["Connection"] = "close"
            async with asyncio.timeout(SILENT_SECONDS):
                await send(message)

        return await self.app(scope, counted, bounded)
