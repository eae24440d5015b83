"""Replicate's predictions: https://replicate.com/docs/reference/http. A model is `owner/name[:version]`."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from tasks_lib.errors import AuthenticationError, ProviderError
from tasks_lib.providers.base import State, Status, Work, in_path, named_job, number, require_recent
from tasks_lib.providers.http import Ambiguous, Answer, Http

_STATES: dict[Any, State] = {
    "starting": "running",
    "processing": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "cancelled",
    "aborted": "cancelled",
}
# A page of the list of predictions holds a hundred.
PAGES = 10


class Replicate:
    """Predictions are created by POST, looked at by GET, and listed newest first, which finds a lost submission."""

    name: ClassVar[str] = "replicate"

    async def submit(self, http: Http, work: Work, key: str, webhook: str | None) -> str:
        """POST /v1/predictions for a version, /v1/models/{owner}/{name}/predictions for an official model."""
        model, _, version = work.model.partition(":")
        body: dict[str, Any] = {"input": work.input}
        path = f"/v1/models/{model}/predictions"
        if version:
            path, body["version"] = "/v1/predictions", version
        if webhook:
            body |= {"webhook": webhook, "webhook_events_filter": ["completed"]}
        answer = await http.submit(path, body, headers={"Idempotency-Key": key}, params={})
        _refuse(answer, "the submission")
        return in_path(answer.fields.get("id"))

    async def upload(self, http: Http, path: Path, kind: str) -> str | None:
        """POST /v1/files, the file as `content`; it is kept there for a day."""
        answer = await http.upload("/v1/files", "content", path, kind)
        _refuse(answer, "the file")
        return str(answer.fields["urls"]["get"])

    async def find(self, http: Http, work: Work, since: datetime, taken: set[str]) -> str | None:
        """The newest predictions, page by page, back to `since`; a job is known by its model and its input."""
        path = "/v1/predictions"
        for _ in range(PAGES):
            answer = await http.request("GET", path)
            _refuse(answer, "the list of predictions")
            for row in answer.fields.get("results") or []:
                if datetime.fromisoformat(row["created_at"]) < since:
                    return None
                if row["id"] not in taken and _is_of(row, work):
                    return in_path(row["id"])
            following = answer.fields.get("next")
            if not following:
                return None
            # Only its query: the key goes to no other host.
            path = f"/v1/predictions?{str(following).partition('?')[2]}"
        raise Ambiguous("the list of predictions is too long to be searched")

    async def status(self, http: Http, model: str, job_id: str) -> Status:
        """GET /v1/predictions/{id}."""
        del model
        answer = await http.request("GET", f"/v1/predictions/{in_path(job_id)}")
        if answer.status == 404:
            return Status("lost", error="the provider does not know the job any more")
        _refuse(answer, "the look at the job")
        found = answer.fields
        metrics = found.get("metrics") or {}
        return Status(
            _STATES.get(found.get("status"), "running"),
            output=found.get("output"),
            error=found.get("error"),
            message=found.get("status"),
            seconds=number(metrics.get("predict_time")),
        )

    async def cancel(self, http: Http, model: str, job_id: str) -> None:
        """POST /v1/predictions/{id}/cancel."""
        del model
        answer = await http.request("POST", f"/v1/predictions/{in_path(job_id)}/cancel")
        if answer.status not in (404, 409, 422):
            _refuse(answer, "the cancellation")

    async def signing_keys(self, http: Http) -> Sequence[str]:
        """GET /v1/webhooks/default/secret: one for the whole account."""
        answer = await http.request("GET", "/v1/webhooks/default/secret")
        _refuse(answer, "the secret of its webhooks")
        return [str(answer.fields["key"])]

    def job_of(self, keys: Sequence[str], headers: Mapping[str, str], body: bytes) -> str:
        """HMAC-SHA256 over `id.timestamp.body`, in base64: https://replicate.com/docs/topics/webhooks/verify-webhook."""
        timestamp = headers.get("webhook-timestamp", "")
        require_recent(timestamp)
        signed = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
        given = [word.partition(",")[2].encode() for word in headers.get("webhook-signature", "").split()]
        for key in keys:
            secret = base64.b64decode(key.removeprefix("whsec_"))
            expected = base64.b64encode(hmac.digest(secret, signed, "sha256"))
            if any(hmac.compare_digest(expected, signature) for signature in given):
                return named_job(body, "id")
        raise AuthenticationError("the webhook's signature is not replicate's")


def _is_of(row: dict[str, Any], work: Work) -> bool:
    """Whether a prediction is what was submitted. Raises `Ambiguous` when it may be, and cannot be told."""
    model, _, version = work.model.partition(":")
    if row.get("version") != version if version else row.get("model") != model:
        return False
    given = row.get("input")
    if row.get("data_removed") or not isinstance(given, dict):
        raise Ambiguous("the provider no longer says what its predictions were made from")
    plain = {key: value for key, value in work.input.items() if key not in work.files}
    if {key: value for key, value in given.items() if key not in work.files} != plain:
        return False
    if work.files:
        raise Ambiguous("a prediction like it is there, and its files cannot be compared")
    return True


def _refuse(answer: Answer, what: str) -> None:
    if not answer.ok:
        detail = answer.fields.get("detail") or answer.fields.get("title") or ""
        raise ProviderError(f"replicate refused {what} ({answer.status}): {detail}".rstrip(": "))
