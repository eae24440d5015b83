"""Webhooks as both providers document them, signed with keys that the simulated provider made for itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasks_lib.providers.simulator.books import SimJob

TRIES = 5
USER = "user-1"


class Webhooks:
    """Signs and sends them. `secret` is the account's at Replicate, `jwks` are fal's public keys."""

    def __init__(self) -> None:
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
        self._key = Ed25519PrivateKey.generate()
        self.refused: list[int] = []
        """The statuses of those that were not taken."""

    @property
    def jwks(self) -> dict[str, Any]:
        """The public half of the key, as fal publishes it."""
        x = base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "sim", "x": x}]}

    def headers(self, dialect: str, job_id: str, body: bytes, at: float | None = None) -> dict[str, str]:
        """The signed headers of a webhook that is sent at a moment (seconds since 1970; now)."""
        stamp = str(int(time.time() if at is None else at))
        if dialect == "replicate":
            key = base64.b64decode(self.secret.removeprefix("whsec_"))
            signature = base64.b64encode(hmac.digest(key, f"msg_{job_id}.{stamp}.".encode() + body, "sha256")).decode()
            return {
                "webhook-id": f"msg_{job_id}",
                "webhook-timestamp": stamp,
                "webhook-signature": f"v1,{signature}",
            }
        message = "\n".join([job_id, USER, stamp, hashlib.sha256(body).hexdigest()])
        return {
            "x-fal-webhook-request-id": job_id,
            "x-fal-webhook-user-id": USER,
            "x-fal-webhook-timestamp": stamp,
            "x-fal-webhook-signature": self._key.sign(message.encode()).hex(),
        }

    async def deliver(self, job: SimJob, address: str, news: dict[str, Any]) -> None:
        """Send one until it is taken, a few times."""
        body = json.dumps(news).encode()
        async with httpx2.AsyncClient(timeout=5) as client:
            for attempt in range(TRIES):
                try:
                    answer = await client.post(address, content=body, headers=self.headers(job.dialect, job.id, body))
                    if answer.is_success:
                        return
                    self.refused.append(answer.status_code)
                except httpx2.HTTPError:
                    self.refused.append(0)
                await asyncio.sleep(0.1 * 2**attempt)
