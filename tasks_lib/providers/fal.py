"""fal's queue: https://docs.fal.ai/documentation/model-apis/inference/queue. A model is an endpoint, `fal-ai/...`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt import PyJWKSet, PyJWTError

from tasks_lib.errors import AuthenticationError, ProviderError
from tasks_lib.providers.base import Status, Work, in_path, named_job, number, require_recent
from tasks_lib.providers.http import Ambiguous, Answer, Http

KEYS_SECONDS = 5.0
SIGNED = ("request-id", "user-id", "timestamp", "signature")


class Fal:
    """A request is queued by POST, watched at its status, and its answer fetched when it is COMPLETED.

    The queue has no list of requests: a submission whose answer was lost cannot be found again.
    """

    name: ClassVar[str] = "fal"

    def __init__(self, jwks_url: str = "https://rest.fal.ai/.well-known/jwks.json") -> None:
        self._jwks_url = jwks_url

    async def submit(self, http: Http, work: Work, key: str, webhook: str | None) -> str:
        """POST /{endpoint}; the input is the whole body."""
        params = {"fal_webhook": webhook} if webhook else {}
        answer = await http.submit(f"/{work.model}", work.input, headers={"Idempotency-Key": key}, params=params)
        if not answer.ok:
            raise ProviderError(f"fal refused the submission ({answer.status}): {_detail(answer)}")
        return in_path(answer.fields.get("request_id"))

    async def upload(self, http: Http, path: Path, kind: str) -> str | None:
        """The queue takes none."""
        del http, path, kind
        return None

    async def find(self, http: Http, work: Work, since: datetime, taken: set[str]) -> str | None:
        """Not possible here: raises `Ambiguous`."""
        del http, work, since, taken
        raise Ambiguous("fal has no list of requests")

    async def status(self, http: Http, model: str, job_id: str) -> Status:
        """GET .../requests/{id}/status, and when it is COMPLETED the answer itself at .../requests/{id}."""
        path = self._path(model, job_id)
        answer = await http.request("GET", f"{path}/status")
        if answer.status == 404:
            return Status("lost", error="the provider does not know the job any more")
        if not answer.ok:
            raise ProviderError(f"fal refused the look at the job ({answer.status}): {_detail(answer)}")
        word = answer.fields.get("status")
        if word != "COMPLETED":
            return Status("running", message=word if isinstance(word, str) else None)
        seconds = number((answer.fields.get("metrics") or {}).get("inference_time"))
        result = await http.request("GET", path)
        if result.ok:
            return Status("succeeded", output=result.body, seconds=seconds)
        if result.status == 404:
            return Status("lost", error="the provider does not have the answer any more", seconds=seconds)
        # A request that was cancelled is COMPLETED too, and says so in its error.
        if "cancel" in str(answer.fields.get("error_type") or answer.fields.get("error") or "").lower():
            return Status("cancelled", error="the provider cancelled the job", seconds=seconds)
        return Status("failed", error=f"{result.status}: {_detail(result)}", seconds=seconds)

    async def cancel(self, http: Http, model: str, job_id: str) -> None:
        """PUT .../requests/{id}/cancel: 202 when asked, 400 when it has ended, 404 when it is unknown."""
        answer = await http.request("PUT", f"{self._path(model, job_id)}/cancel")
        if not answer.ok and answer.status not in (400, 404):
            raise ProviderError(f"fal refused the cancellation ({answer.status}): {_detail(answer)}")

    async def signing_keys(self, http: Http) -> Sequence[Ed25519PublicKey]:
        """The JWKS, which is public and the same for all accounts."""
        del http
        async with httpx2.AsyncClient(timeout=KEYS_SECONDS) as client:
            try:
                answer = (await client.get(self._jwks_url)).raise_for_status().json()
                found = [key.key for key in PyJWKSet.from_dict(answer).keys]
            except (httpx2.HTTPError, ValueError, PyJWTError) as error:
                raise ProviderError(
                    f"fal's public keys cannot be had: {type(error).__name__}", retryable=True
                ) from None
        return [key for key in found if isinstance(key, Ed25519PublicKey)]

    def job_of(self, keys: Sequence[Ed25519PublicKey], headers: Mapping[str, str], body: bytes) -> str:
        """Ed25519 over request id, user id, timestamp and the body's SHA-256, in lines.

        https://docs.fal.ai/documentation/model-apis/inference/webhooks
        """
        request, user, timestamp, signature = (headers.get(f"x-fal-webhook-{name}", "") for name in SIGNED)
        require_recent(timestamp)
        message = "\n".join([request, user, timestamp, hashlib.sha256(body).hexdigest()]).encode()
        for key in keys:
            with suppress(InvalidSignature, ValueError):
                key.verify(bytes.fromhex(signature), message)
                return named_job(body, "request_id")
        raise AuthenticationError("the webhook's signature is not fal's")

    @staticmethod
    def _path(model: str, job_id: str) -> str:
        # Requests lie under the app, whatever endpoint of it they were sent to.
        return f"/{'/'.join(model.split('/')[:2])}/requests/{in_path(job_id)}"


def _detail(answer: Answer) -> str:
    detail: Any = answer.fields.get("detail") or ""
    if isinstance(detail, list):
        return "; ".join(str(item.get("msg", "")) for item in detail if isinstance(item, dict))
    return str(detail)
