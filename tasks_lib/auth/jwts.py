"""JSON Web Tokens: from a signed token to the user that it names.

The key decides the algorithm and never the token alone: HS256 goes with the shared secret, RS256, ES256 and EdDSA
with keys of the JWKS, so a public key cannot be used as a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any
from uuid import UUID

import jwt

from tasks_lib.auth.key_sets import PUBLIC, key_set
from tasks_lib.errors import AuthenticationError
from tasks_lib.settings import Settings, get_settings

SHARED = "HS256"
SERVICE_ROLES = frozenset({"service", "service_role", "supabase_admin", "admin", "owner", "gateway", "worker"})

CLOCK_SKEW_SECONDS = 10
"""How far the clocks of issuer and service may be apart."""


def looks_like_jwt(token: str) -> bool:
    """Whether a credential has the three parts of a signed token."""
    return token.count(".") == 2


def verify(token: str) -> UUID:
    """The user (`sub`) of a valid token.

    Raises `AuthenticationError` for any other, and when the keys cannot be had.
    """
    settings = get_settings()
    try:
        header = jwt.get_unverified_header(token)
        key, algorithm = _key_for(header, settings)
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=settings.jwt_audience,
            issuer=settings.jwt_issuer,
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "sub", "aud"] + (["iss"] if settings.jwt_issuer else [])},
        )
    except jwt.ExpiredSignatureError:
        raise AuthenticationError("the token has expired") from None
    # The library's own errors, and what it lets through of malformed keys and numbers.
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        raise AuthenticationError("the token is not a valid JWT") from None
    if SERVICE_ROLES & _roles(claims):
        raise AuthenticationError("a user's token cannot act as the service")
    try:
        return UUID(claims["sub"])
    except (ValueError, AttributeError, TypeError):
        raise AuthenticationError("`sub` of the token is not a user's id") from None


def awaited_keys(token: str) -> Future[None] | None:
    """The fetch of keys that a token's check will wait for, if there is one: so that an event loop can wait for it."""
    url = get_settings().jwt_jwks_url
    if not (url and looks_like_jwt(token)):
        return None
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None
    kid = header.get("kid")
    return key_set(url).awaited(kid) if header.get("alg") in PUBLIC and isinstance(kid, str | None) else None


def _key_for(header: Mapping[str, Any], settings: Settings) -> tuple[Any, str]:
    algorithm = header.get("alg")
    if algorithm == SHARED and settings.jwt_secret:
        return settings.jwt_secret.get_secret_value(), SHARED
    if algorithm in PUBLIC and settings.jwt_jwks_url:
        key = key_set(settings.jwt_jwks_url).find(header.get("kid"))
        if key.algorithm_name == algorithm:
            return key, algorithm
    raise jwt.InvalidAlgorithmError("no key for this algorithm")


def _roles(claims: Mapping[str, Any]) -> set[str]:
    """Every role that a token claims, where the usual issuers write them."""
    found: set[str] = set()
    for place in (claims, claims.get("app_metadata"), claims.get("user_metadata")):
        if isinstance(place, Mapping):
            for value in (place.get("role"), place.get("roles")):
                found |= {str(role).lower() for role in (value if isinstance(value, list) else [value])}
    return found
