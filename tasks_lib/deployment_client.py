"""Creating a task through the deployment `create-task`, for callers who reach Prefect's API and not the database."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any
from uuid import UUID

import httpx2
from pydantic import SecretStr

from tasks_lib import errors
from tasks_lib.auth.sealing import SEAL_SECONDS, seal
from tasks_lib.settings import get_settings

DEPLOYMENT = "create-task/create-task"
POLL_SECONDS = 0.5
CALL_SECONDS = 30
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})

_ANSWER = re.compile(r"task ([0-9a-f-]{36}) (is|was there already and is) (\w+)")

ERROR_LABEL = "unitask.error"
"""The label of a failed run that names the class of its error."""


def trigger(
    request: dict[str, Any], token: str | SecretStr | None, token_block: str | None = None
) -> tuple[UUID, str, bool]:
    """Run the deployment for a request (its JSON form, with an idempotency key) and wait for its answer.

    The caller is the holder of the token in the Prefect Secret block of that name, or else of `token`, which is sealed.
    Answers the task's id, its status and whether it was made. Raises what the flow raised, and `TimeoutError`.
    """
    parameters: dict[str, Any] = {"request": request}
    if token_block:
        parameters["token_block"] = token_block
    elif token := token or get_settings().token:
        parameters["sealed_token"] = seal(token, request)
    else:
        raise errors.AuthenticationError("a token is required; set UNITASK_TOKEN, pass `token` or name a `token_block`")
    until = time.monotonic() + SEAL_SECONDS
    try:
        with prefect_client() as api:
            deployment = _json(api.get(f"/deployments/name/{DEPLOYMENT}"))
            run = _json(api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters}))
            while run["state_type"] not in FINAL:
                if time.monotonic() > until:
                    raise TimeoutError(f"the run {run['name']} of {DEPLOYMENT} is still {run['state_type']}")
                time.sleep(POLL_SECONDS)
                run = _json(api.get(f"/flow_runs/{run['id']}"))
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise errors.ProviderError(f"Prefect's API failed: {reason}", retryable=True) from None
    return _answer(run)


def _answer(run: dict[str, Any]) -> tuple[UUID, str, bool]:
    message = run["state"]["message"] or ""
    if run["state_type"] == "COMPLETED" and (found := _ANSWER.search(message)):
        return UUID(found[1]), found[3], found[2] == "is"
    if raised := run["labels"].get(ERROR_LABEL):
        raise _raised(raised, message)
    raise errors.ProviderError(f"the run {run['name']} of {DEPLOYMENT} is {run['state_type']}: {message}")


def _raised(name: str, text: str) -> errors.TaskError:
    """The flow's own error, as far as its name and text tell it."""
    if name == "AuthenticationError":
        return errors.AuthenticationError(text.removeprefix("Authentication failed: "))
    if name == "RateLimitError" and (wait := re.search(r"come back in (\d+) seconds", text)):
        return errors.RateLimitError(text, float(wait[1]))
    if name == "TaskValidationError":
        named = re.match(r"`([\w.\[\]]+)`", text)
        return errors.TaskValidationError(text, named[1] if named else None)
    plain = (errors.AuthorizationError, errors.NotFoundError, errors.ConflictError, errors.InsufficientCreditsError)
    return {cls.__name__: cls for cls in plain}.get(name, errors.TaskError)(text)


def prefect_client() -> httpx2.Client:
    """A client of Prefect's REST API: the one of PREFECT_API_URL, or of the platform that runs here.

    Raises `TaskValidationError` where there is none.
    """
    api_url = os.environ.get("PREFECT_API_URL") or _api_url_of_platform()
    if not api_url:
        raise errors.TaskValidationError("Prefect's API is needed: set PREFECT_API_URL, or start it by `unitask up`")
    key = os.environ.get("PREFECT_API_KEY")
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return httpx2.Client(
        base_url=api_url.rstrip("/"),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        auth=(user, password) if user and not key else None,
        timeout=CALL_SECONDS,
    )


def _api_url_of_platform() -> str | None:
    """What `unitask up` has written down."""
    try:
        return str(json.loads((get_settings().home / "run.json").read_text())["prefect_api_url"])
    except (OSError, ValueError, KeyError):
        return None


def _json(response: httpx2.Response) -> dict[str, Any]:
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer
