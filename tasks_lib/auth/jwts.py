"""JSON Web Tokens: from a signed token to the user that it names.

The key decides the algorithm and never the token alone: HS256 goes with the shared secret, RS256, ES256 and EdDSA
with keys of the JWKS, so a public key cannot be used as a secret.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import UUID

import httpx2
import jwt

from tasks_lib.errors import AuthenticationError
from tasks_lib.settings import Settings, get_settings

SHARED = "HS256"
PUBLIC = ("RS256", "ES256", "EdDSA")
SERVICE_ROLES = frozenset({"service", "service_role", "supabase_admin", "admin", "owner", "gateway", "worker"})

CLOCK_SKEW_SECONDS = 10
"""How far the clocks of issuer and service may be apart."""
FETCH_SECONDS = 5.0
FRESH_SECONDS = 600.0
"""After this long the keys are fetched anew."""
STALE_SECONDS = 3600.0
"""While the JWKS cannot be had, keys are trusted for this long; afterwards nobody is let in."""
REFETCH_SECONDS = 10.0
"""At most one fetch in this time, whatever key ids the tokens name."""


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


def _key_for(header: Mapping[str, Any], settings: Settings) -> tuple[Any, str]:
    algorithm = header.get("alg")
    if algorithm == SHARED and settings.jwt_secret:
        return settings.jwt_secret.get_secret_value(), SHARED
    if algorithm in PUBLIC and settings.jwt_jwks_url:
        key = _key_set(settings.jwt_jwks_url).find(header.get("kid"))
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


class KeySet:
    """The public keys behind one JWKS address, cached; keys that rotate are found by their unknown `kid`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")

    def find(self, kid: str | None) -> jwt.PyJWK:
        """The key of that id; without an id, the only key. Raises `AuthenticationError`."""
        now = time.monotonic()
        # One fetch for all who wait, or a burst of unknown ids would become a burst of requests.
        with self._lock:
            wanted = now - self._fetched > FRESH_SECONDS or self._known(kid) is None
            if wanted and now - self._tried > REFETCH_SECONDS:
                self._tried = now
                self._fetch(now)
            if now - self._fetched > STALE_SECONDS:
                raise AuthenticationError("the keys that tokens are signed with cannot be had now")
            key = self._known(kid)
        if key is None:
            raise AuthenticationError("the token is signed with an unknown key")
        return key

    def _known(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _fetch(self, now: float) -> None:
        try:
            answer = httpx2.get(self.url, timeout=FETCH_SECONDS, trust_env=False).raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(answer).keys
        except (httpx2.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            return
        # A secret in a public document is no key, and one for encryption signs nothing.
        signing = [key for key in keys if key.algorithm_name in PUBLIC and key.public_key_use in (None, "sig")]
        self._keys = {key.key_id: key for key in signing}
        self._fetched = now


@cache
def _key_set(url: str) -> KeySet:
    return KeySet(url)
