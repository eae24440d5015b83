"""fal's queue: https://docs.fal.ai/documentation/model-apis/inference/queue. A model is an endpoint, `fal-ai/...`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from tasks_lib.errors import ProviderError
from tasks_lib.providers.base import Status, Work, in_path, number
from tasks_lib.providers.http import Ambiguous, Answer, Http


class Fal:
    """A request is queued by POST, watched at its status, and its answer fetched when it is COMPLETED.

    The queue has no list of requests: a submission whose answer was lost cannot be found again.
    """

    name: ClassVar[str] = "fal"

    async def submit(self, http: Http, work: Work, key: str, webhook: str | None) -> str:
        """POST /{endpoint}; the input is the whole body."""
        params = {"fal_webhook": webhook} if webhook else {}
        answer = await http.submit(f"/{work.model}", work.input, headers={"Idempotency-Key": key}, params=params)
        if not answer.ok:
            raise ProviderError(f"fal refused the submission ({answer.status}): {_detail(answer)}")
        return in_path(answer.fields.get("request_id"))

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

    @staticmethod
    def _path(model: str, job_id: str) -> str:
        # Requests lie under the app, whatever endpoint of it they were sent to.
        return f"/{'/'.join(model.split('/')[:2])}/requests/{in_path(job_id)}"


def _detail(answer: Answer) -> str:
    detail: Any = answer.fields.get("detail") or ""
    if isinstance(detail, list):
        return "; ".join(str(item.get("msg", "")) for item in detail if isinstance(item, dict))
    return str(detail)
