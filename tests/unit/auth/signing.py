"""Keys, a login service on a local port, and tokens that it might sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a shared secret of more than 32 bytes"
USER = UUID("11111111-1111-4111-8111-111111111111")
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}
PUBLIC_JWKS = [
    {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "RS256", "alg": "RS256", "use": "sig"},
    {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ES256", "alg": "ES256"},
    {**OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True), "kid": "EdDSA", "alg": "EdDSA"},
    {"kty": "oct", "kid": "oct", "alg": "HS256", "k": base64.urlsafe_b64encode(b"k" * 32).decode()},
]


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; a claim that is changed to None is left out."""
    now = int(time.time())
    good = {"sub": str(USER), "aud": "authenticated", "iss": "https://login.example", "exp": now + 86_400, "iat": now}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def shared(*, secret: str = SECRET, **changed: Any) -> str:
    """A token signed with the shared secret."""
    return jwt.encode(claims(**changed), secret, "HS256")


def public(algorithm: str = "RS256", kid: str | None = None, **changed: Any) -> str:
    """A token signed with a private key of the login service."""
    return jwt.encode(claims(**changed), PRIVATE[algorithm], algorithm, headers={"kid": kid or algorithm})


def forged(header: dict[str, Any], key: bytes = b"", **changed: Any) -> str:
    """A token put together by hand: an HMAC of `key` under any header, or no signature without a key."""
    parts = [_encode(json.dumps(part).encode()) for part in (header, claims(**changed))]
    signed = ".".join(parts)
    mac = hmac.digest(key, signed.encode(), hashlib.sha256) if key else b""
    return f"{signed}.{_encode(mac)}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class LoginService(ThreadingHTTPServer):
    """Serves a JWKS and counts who asks; `keys` null answers an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[dict[str, Any]] | None = PUBLIC_JWKS
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"


class _Handler(BaseHTTPRequestHandler):
    server: LoginService

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps({"keys": self.server.keys}).encode()
        self.send_response(200 if self.server.keys is not None else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def login_service() -> Iterator[LoginService]:
    """A login service for the time of the block."""
    with LoginService() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
