"""Who is calling by HTTP: the bearer of a token, which the library then authenticates."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header
from pydantic import SecretStr

from tasks_lib.errors import AuthenticationError


def bearer(authorization: str) -> SecretStr:
    """The bearer's token. Without one nobody calls: the service's own token is not lent to callers."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise AuthenticationError("send `Authorization: Bearer TOKEN`")
    return SecretStr(token.strip())


async def shown_token(authorization: Annotated[str, Header()] = "") -> SecretStr:
    """As `bearer`, of a request's header; async, as what runs in no thread waits for none."""
    return bearer(authorization)


Token = Annotated[SecretStr, Depends(shown_token)]


async def maybe_bearer(authorization: Annotated[str, Header()] = "") -> SecretStr:
    """The bearer's token, or one that is nobody's: for what may be asked without a login."""
    return bearer(authorization) if authorization else SecretStr("")


MaybeToken = Annotated[SecretStr, Depends(maybe_bearer)]
