"""Errors as HTTP: the status of the error tree, and one JSON shape for all of them.

{"error": {"kind": "validation", "message": "...", "field": "params.fps", "refusals": [...]}}
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tasks_lib.errors import AuthenticationError, DatabaseError, TaskError
from tasks_lib.params.base import field_path


def answer(error: TaskError) -> JSONResponse:
    """An error of the library as a response; `Retry-After` is in whole seconds."""
    headers = {}
    if isinstance(error, AuthenticationError):
        headers["WWW-Authenticate"] = "Bearer"
    retry_after = getattr(error, "retry_after", 5.0 if isinstance(error, DatabaseError) else None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, round(retry_after)))
    return _response(
        error.http_status,
        error.kind,
        # Where the database is, and what it says, is for the operator.
        "the database cannot serve this now; try again" if isinstance(error, DatabaseError) else str(error),
        headers,
        field=getattr(error, "field", None),
        refusals=[asdict(refusal) for refusal in error.refusals],
    )


def install(app: FastAPI) -> None:
    """Let every error of `app` be answered in the one shape; of one that nobody foresaw, only the log tells."""
    app.add_exception_handler(TaskError, _of_the_library)
    app.add_exception_handler(RequestValidationError, _of_the_request)
    app.add_exception_handler(HTTPException, _of_the_router)
    app.add_exception_handler(Exception, _unforeseen)


async def _of_the_library(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TaskError)
    return answer(error)


async def _of_the_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # The input itself is left out: it may hold what should not be repeated.
    found = error.errors()[0]
    _where, *path = found["loc"]
    field = field_path(tuple(path)) or None
    return _response(422, "validation", f"`{field}`: {found['msg']}" if field else found["msg"], field=field)


async def _of_the_router(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _response(error.status_code, "http", error.detail, error.headers)


async def _unforeseen(request: Request, _: Exception) -> JSONResponse:
    return _response(500, "internal", f"{request.method} {request.url.path} failed; see the log of the service")


def _response(
    status: int, kind: str, message: str, headers: Any = None, *, field: str | None = None, refusals: Any = ()
) -> JSONResponse:
    body = {"kind": kind, "message": message, "field": field, "refusals": refusals}
    return JSONResponse({"error": body}, status, headers)
