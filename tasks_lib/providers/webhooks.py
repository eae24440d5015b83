"""Where providers report that a job has ended: `POST /webhooks/<provider>[/<user>]`, one address for each account.

A webhook is only ever a hint. Once its signature, its age and its job are good, whoever waits for the job is woken and
asks the provider itself: nothing of the body is believed or stored, so it may come twice, late, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request, Response

from tasks_lib.errors import AuthenticationError, DatabaseError, TaskError
from tasks_lib.providers import jobs
from tasks_lib.providers.clients import Client, Clients
from tasks_lib.providers.http import ANSWER_BYTES
from tasks_lib.settings import Settings, get_settings

logger = logging.getLogger(__name__)

KEYS_FRESH_SECONDS = 3600.0
# A key that was exchanged is found by its first signature; strangers cannot make us fetch more often.
KEYS_AGAIN_SECONDS = 60.0


class Receiver:
    """Checks webhooks and wakes those who wait. It needs the keys of the accounts, as the workers do."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._keys: dict[str, tuple[float, Sequence[Any]]] = {}

    async def receive(self, account: str, headers: Mapping[str, str], body: bytes) -> int:
        """Take in a webhook for an account; answers the HTTP status: 204, or 401 and 404 for one that is refused."""
        try:
            sealed_key = await asyncio.to_thread(jobs.sealed_key, account)
            job_id = await self._job_of(account, self._clients.of(account, sealed_key), headers, body)
            return 204 if await asyncio.to_thread(jobs.ring, account, job_id) else 404
        except AuthenticationError as error:
            logger.info("a webhook for %s was refused: %s", account, error)
            return 401
        except DatabaseError:
            return 503
        except TaskError as error:
            logger.warning("a webhook for %s cannot be checked: %s", account, error)
            return 503 if error.retryable else 404

    async def _job_of(self, account: str, client: Client, headers: Mapping[str, str], body: bytes) -> str:
        fetched, keys = self._keys.get(account, (0.0, ()))
        age = time.monotonic() - fetched
        if keys and age < KEYS_FRESH_SECONDS:
            try:
                return client.adapter.job_of(keys, headers, body)
            except AuthenticationError:
                if age < KEYS_AGAIN_SECONDS:
                    raise
        keys = await client.adapter.signing_keys(client.http)
        self._keys[account] = time.monotonic(), keys
        return client.adapter.job_of(keys, headers, body)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The receiver as an ASGI application; providers reach it at `UNITASK_WEBHOOK_URL`."""
    chosen = settings or get_settings()
    clients = Clients(chosen)
    receiver = Receiver(clients)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with clients:
            yield

    app = FastAPI(title="unitask webhooks", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/webhooks/{provider}")
    @app.post("/webhooks/{provider}/{user_id}")
    async def webhook(request: Request, provider: str, user_id: UUID | None = None) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > ANSWER_BYTES:
                return Response(status_code=413)
        account = f"{provider}/{user_id}" if user_id else provider
        return Response(status_code=await receiver.receive(account, request.headers, bytes(body)))

    return app
