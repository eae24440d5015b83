"""The public keys of a login service (a JWKS), cached; fetched where nobody waits who need not.

A fetch runs in a thread of its own, at most one in `REFETCH_SECONDS` and never two at once. Who shows a key that is
known goes on at once, whatever the login service does; who shows another waits for the fetch, and no longer than
`FETCH_SECONDS` after its beginning.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait
from functools import cache

import httpx2
import jwt

from tasks_lib.errors import AuthenticationError

PUBLIC = ("RS256", "ES256", "EdDSA")

FETCH_SECONDS = 5.0
FRESH_SECONDS = 600.0
"""After this long the keys are fetched anew."""
STALE_SECONDS = 3600.0
"""While the JWKS cannot be had, keys are trusted for this long; afterwards nobody is let in."""
REFETCH_SECONDS = 10.0
"""At most one fetch in this time, whatever key ids the tokens name."""
MAX_BYTES = 1 << 20


class KeySet:
    """The public keys behind one JWKS address; keys that rotate are found by their unknown `kid`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching: Future[None] | None = None

    def find(self, kid: str | None) -> jwt.PyJWK:
        """The key of that id; without an id, the only key. Raises `AuthenticationError`."""
        if fetching := self.awaited(kid):
            wait([fetching], max(0.0, self._tried + FETCH_SECONDS - time.monotonic()))
        if time.monotonic() - self._fetched > STALE_SECONDS:
            raise AuthenticationError("the keys that tokens are signed with cannot be had now")
        key = self._known(kid)
        if key is None:
            raise AuthenticationError("the token is signed with an unknown key")
        return key

    def awaited(self, kid: str | None) -> Future[None] | None:
        """The fetch without whose end the key cannot be told, begun if need be; None when there is nothing to wait for.

        Nothing is waited for here: the lock is held for a few assignments.
        """
        now = time.monotonic()
        usable = self._known(kid) is not None and now - self._fetched <= STALE_SECONDS
        with self._lock:
            wanted = not usable or now - self._fetched > FRESH_SECONDS
            if wanted and self._fetching is None and now - self._tried > REFETCH_SECONDS:
                self._tried = now
                self._fetching = Future()
                threading.Thread(target=self._fetch, args=(now, self._fetching), name="jwks", daemon=True).start()
            return None if usable else self._fetching

    def _known(self, kid: str | None) -> jwt.PyJWK | None:
        keys = self._keys
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(kid)

    def _fetch(self, now: float, done: Future[None]) -> None:
        try:
            keys = jwt.PyJWKSet.from_json(_read(self.url)).keys
            # A secret in a public document is no key, and one for encryption signs nothing.
            signing = [key for key in keys if key.algorithm_name in PUBLIC and key.public_key_use in (None, "sig")]
            self._keys = {key.key_id: key for key in signing}
            self._fetched = now
        except (httpx2.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
            pass  # what was fetched before serves on
        finally:
            with self._lock:
                self._fetching = None
            done.set_result(None)


def _read(url: str) -> str:
    """The document behind a URL, in `FETCH_SECONDS` in all: one that comes byte by byte ends too."""
    end = time.monotonic() + FETCH_SECONDS
    found = bytearray()
    with httpx2.stream("GET", url, timeout=FETCH_SECONDS, trust_env=False) as answer:
        for part in answer.raise_for_status().iter_bytes():
            found += part
            if len(found) > MAX_BYTES or time.monotonic() > end:
                raise ValueError("the keys are too long, or take too long")
    return found.decode()


@cache
def key_set(url: str) -> KeySet:
    """The keys behind an address, one cache in a process."""
    return KeySet(url)
