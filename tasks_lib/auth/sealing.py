"""Secrets that may lie about: encrypted to the service's public key, each for one purpose.

What a deployment is triggered with is stored in clear text and shown in Prefect's UI. So the caller's token goes there
as HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305) to a key that only the service has; the request's digest and
the time of expiry are bound into it, and no other request and no later time opens it. What the database keeps for a
person is encrypted likewise and bound to its place (`encrypt`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pydantic import SecretStr

from tasks_lib.errors import AuthenticationError
from tasks_lib.settings import get_settings

MARK = "sealed1."
KEPT = b"unitask kept secret 1\0"
SEAL_SECONDS = 600
"""How long a sealed token is valid: a run that starts later is refused."""
SKEW_SECONDS = 60
"""How far the clocks of caller and service may be apart."""

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_EXPIRY = struct.Struct(">Q")


def ensure_key_pair(home: Path) -> None:
    """Make the service's key pair under `<home>/keys` unless it is there; only its owner can read the private key."""
    folder = home / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = folder / "seal.key"
    new = folder / f"seal.key.{os.getpid()}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(_encode(X25519PrivateKey.generate().private_bytes_raw()))
    # Linked when it is whole, and never over a key that another process made first.
    with suppress(FileExistsError):
        os.link(new, private)
    new.unlink()
    public = X25519PrivateKey.from_private_bytes(_decode(private.read_text())).public_key()
    (folder / "seal.pub").write_bytes(_encode(public.public_bytes_raw()) + b"\n")


def seal(token: str | SecretStr, request: Mapping[str, Any]) -> str:
    """Seal a token for one request (its JSON form). Raises `AuthenticationError` when there is no public key."""
    secret = token.get_secret_value() if isinstance(token, SecretStr) else token
    expiry = _EXPIRY.pack(int(time.time() + SEAL_SECONDS))
    # What can be no token is refused where the others are.
    box = _SUITE.encrypt(secret.encode(errors="replace"), _public_key(), _bound(request, expiry))
    return MARK + _encode(expiry + box).decode()


def unseal(sealed: str, request: Mapping[str, Any]) -> SecretStr:
    """The token that was sealed for this very request.

    Raises `AuthenticationError` for one that was sealed for another request, for another service, or too long ago.
    """
    key = _private_key()
    try:
        data = _sealed_bytes(sealed)
        expiry, box = data[: _EXPIRY.size], data[_EXPIRY.size :]
        (until,) = _EXPIRY.unpack(expiry)
        token = _SUITE.decrypt(box, key, _bound(request, expiry)).decode()
    except (InvalidTag, ValueError, struct.error):
        raise AuthenticationError("the sealed token does not belong to this request and this service") from None
    left = until - time.time()
    if not -SKEW_SECONDS <= left <= SEAL_SECONDS + SKEW_SECONDS:
        raise AuthenticationError("the sealed token has expired; send the request again")
    return SecretStr(token)


def digest(sealed: str) -> str:
    """Return what a sealed token is remembered by when it was used. Raises `AuthenticationError` for what is none."""
    try:
        return hashlib.sha256(_sealed_bytes(sealed)).hexdigest()
    except ValueError:
        raise AuthenticationError("the sealed token does not belong to this request and this service") from None


def _sealed_bytes(sealed: str) -> bytes:
    """Return the bytes of a sealed token. One has one text: what is only read as the same bytes is refused."""
    data = _decode(sealed.removeprefix(MARK))
    if MARK + _encode(data).decode() != sealed:
        raise ValueError(MARK)
    return data


def encrypt(secret: SecretStr, place: str) -> str:
    """Encrypt a secret that is kept at one place (a row's key), and can be read there by the service alone.

    Raises `AuthenticationError` when there is no public key.
    """
    return _encode(_SUITE.encrypt(secret.get_secret_value().encode(), _public_key(), KEPT + place.encode())).decode()


def decrypt(text: str, place: str) -> SecretStr:
    """The secret that was encrypted for this place. Raises `AuthenticationError` for any other."""
    key = _private_key()
    try:
        return SecretStr(_SUITE.decrypt(_decode(text), key, KEPT + place.encode()).decode())
    except (InvalidTag, ValueError):
        raise AuthenticationError("what is kept there was not encrypted for this place and this service") from None


def _public_key() -> X25519PublicKey:
    text = get_settings().seal_public_key or _key_file("seal.pub")
    if not text:
        raise AuthenticationError("no public key of the service: set UNITASK_SEAL_PUBLIC_KEY to its keys/seal.pub")
    try:
        return X25519PublicKey.from_public_bytes(_decode(text))
    except ValueError:
        raise AuthenticationError("UNITASK_SEAL_PUBLIC_KEY is not a key of this service") from None


def _private_key() -> X25519PrivateKey:
    settings = get_settings()
    text = settings.seal_private_key.get_secret_value() if settings.seal_private_key else _key_file("seal.key")
    if not text:
        raise AuthenticationError("the service has no key to open sealed tokens; `unitask deploy` makes one")
    try:
        return X25519PrivateKey.from_private_bytes(_decode(text))
    except ValueError:
        raise AuthenticationError("UNITASK_SEAL_PRIVATE_KEY is not a key of this service") from None


def _bound(request: Mapping[str, Any], expiry: bytes) -> bytes:
    body = json.dumps(_plain(request), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return b"unitask sealed token 1\0" + hashlib.sha256(body.encode()).digest() + expiry


def _plain(value: Any) -> Any:
    """JSON as it comes out of Prefect's database, which writes 1e16 and 1.0 as whole numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _key_file(name: str) -> str:
    try:
        return (get_settings().home / "keys" / name).read_text()
    except FileNotFoundError:
        return ""


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data)


def _decode(text: str) -> bytes:
    return base64.b64decode(text.strip(), altchars="-_", validate=True)
