"""In this order, for every call: who is it, may they, is it not too often; only then is anything read or done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic import SecretStr

from deployments.gateway.callers import bearer
from deployments.gateway.pools import BODY_BYTES, LOGINS, BusyError, Pool, caller_id
from tasks_lib.auth import Caller, authenticate, jwts, limits, require_project
from tasks_lib.auth.key_sets import FETCH_SECONDS
from tasks_lib.client import to_id

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

MAX_VALUES = 500_000
"""Values in the JSON of a request: each takes memory, however short it is."""
LARGE_BYTES = 1 << 20
LARGE_SECONDS = 30.0


@dataclass(frozen=True)
class Rule:
    """Who may make a call, how it is counted, and whose threads do it; without a scope, everybody may."""

    pool: Pool
    scope: str | None = None
    count: Callable[[Caller], None] | None = None
    takes_file: bool = False
    """The body is a file, which the call itself takes in."""


def rule(
    pool: Pool, scope: str | None = None, count: Callable[[Caller], None] | None = None, *, takes_file: bool = False
) -> Callable[[F], F]:
    """Give a call its rule."""

    def give(endpoint: F) -> F:
        endpoint.rule = Rule(pool, scope, count, takes_file)  # type: ignore[attr-defined]
        return endpoint

    return give


class RuledRoute(APIRoute):
    """A route that keeps its call's rule; a call without one is a mistake that nobody can start the gateway with."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        self.rule: Rule = endpoint.rule  # type: ignore[attr-defined]
        super().__init__(path, _in_pool(endpoint, self.rule.pool), **more)

    def get_route_handler(self) -> Handler:
        """Return what admits a request before the rest of it is read."""
        handle, rule = super().get_route_handler(), self.rule

        async def ruled(request: Request) -> Response:
            await _admit(request, rule)
            if request.method not in ("POST", "PUT", "PATCH") or rule.takes_file:
                return await handle(request)
            with BODY_BYTES.taken(0) as take:
                request.state.take = take
                body = await request.body()
                _check_values(body)
                if len(body) < LARGE_BYTES:
                    return await handle(request)
                # Parsed, it takes many times its length: one after the other.
                return await _alone(request.app.state.large, handle, request)

        return ruled


async def _admit(request: Request, rule: Rule) -> None:
    header = request.headers.get("authorization", "")
    if rule.scope is None and not header.lower().startswith("bearer "):
        return
    token = bearer(header)
    if fetch := jwts.awaited_keys(token.get_secret_value()):
        # Here and not in a thread, which others need meanwhile.
        await asyncio.wait({asyncio.wrap_future(fetch)}, timeout=FETCH_SECONDS)
    if rule.scope is not None:
        caller = await LOGINS.run(_check, token, rule, request.path_params)
        caller_id.set("service" if caller.is_service else str(caller.user_id))
        limits.counted.set(True)


def _check(token: SecretStr, rule: Rule, path: dict[str, Any]) -> Caller:
    caller = authenticate(token)
    caller.require(str(rule.scope))
    if rule.count is not None:
        rule.count(caller)
    if "project_id" in path:
        require_project(caller, to_id(path["project_id"]))
    return caller


def _check_values(body: bytes) -> None:
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise HTTPException(413, f"a request has at most {MAX_VALUES} values; send fewer tasks at once")


async def _alone(large: asyncio.Semaphore, handle: Handler, request: Request) -> Response:
    try:
        async with asyncio.timeout(LARGE_SECONDS):
            await large.acquire()
    except TimeoutError:
        raise BusyError("other large requests are worked on; try again, or send fewer tasks at once") from None
    try:
        return await handle(request)
    finally:
        large.release()


def _in_pool(endpoint: Callable[..., Any], pool: Pool) -> Callable[..., Any]:
    if iscoroutinefunction(endpoint) or isasyncgenfunction(endpoint):
        return endpoint

    @wraps(endpoint)
    async def called(*args: Any, **kwargs: Any) -> Any:
        return await pool.run(endpoint, *args, **kwargs)

    return called
