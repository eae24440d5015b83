"""Attacks on signed tokens: each is refused as `AuthenticationError`, and only the good ones name a user."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from tasks_lib.auth import jwts, key_sets
from tasks_lib.errors import AuthenticationError
from tasks_lib.settings import Settings, get_settings
from tests.races.sessions import wait_until
from tests.unit.auth.signing import RSA, SECRET, USER, LoginService, claims, forged, login_service, public, shared

PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
NOW = int(time.time())

ATTACKS = {
    "no parts": "..",
    "not base64": "a.b.c",
    "not json": "e30.e30.e30",
    "null characters": "\0.\0.\0",
    "not ascii": "é.é.é",
    "alg none": forged({"alg": "none"}),
    "alg NONE": forged({"alg": "NONE"}),
    "no alg": forged({"typ": "JWT"}),
    "alg is a list": forged({"alg": ["HS256"]}, SECRET.encode()),
    "HS384, not on the list": jwt.encode(claims(), SECRET * 2, "HS384"),
    "wrong secret": jwt.encode(claims(), "x" * 40, "HS256"),
    "signature cut off": shared().rpartition(".")[0] + ".",
    "signature of another body": ".".join([*shared().split(".")[:2], shared(sub=str(USER)[::-1]).split(".")[2]]),
    "public key as a secret": forged({"alg": "HS256", "kid": "RS256"}, PEM),
    "secret of the JWKS": jwt.encode(claims(), b"k" * 32, "HS256", headers={"kid": "oct"}),
    "RS256 token with the key of ES256": public("RS256", kid="ES256"),
    "unknown kid": public(kid="nobody"),
    "kid is a path": public(kid="../../etc/passwd"),
    "kid is a number": forged({"alg": "RS256", "kid": 7}),
    "no kid where there are several keys": jwt.encode(claims(), RSA, "RS256"),
    "key inside the header": jwt.encode(
        claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"jwk": {"kty": "EC"}, "kid": "ES256"}
    ),
    "unknown critical extension": jwt.encode(claims(), SECRET, "HS256", headers={"crit": ["x"], "x": 1}),
    "expired": shared(exp=NOW - 60),
    "no exp": shared(exp=None),
    "exp is text": shared(exp="later"),
    "exp is out of range": shared(exp=1e400),
    "not valid yet": shared(nbf=NOW + 80_000),
    "made in the future": shared(iat=NOW + 80_000),
    "another audience": shared(aud="somebody else"),
    "no audience": shared(aud=None),
    "another issuer": shared(iss="https://evil.example"),
    "no issuer": shared(iss=None),
    "no subject": shared(sub=None),
    "subject is no user": shared(sub="admin"),
    "subject is a number": forged({"alg": "HS256"}, SECRET.encode(), sub=7),
    "role of the service": shared(role="service_role"),
    "role of a worker": shared(roles=["user", "Worker"]),
    "role in the metadata": shared(app_metadata={"role": "service_role"}),
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoginService]:
    """A login service that the settings trust, beside a shared secret."""
    with login_service() as server:
        monkeypatch.setenv("UNITASK_JWT_SECRET", SECRET)
        monkeypatch.setenv("UNITASK_JWT_JWKS_URL", server.url)
        monkeypatch.setenv("UNITASK_JWT_ISSUER", "https://login.example")
        get_settings.cache_clear()
        yield server
    get_settings.cache_clear()


@pytest.mark.parametrize("name", ATTACKS)
def test_token_is_refused_when_it_is_attacked(service: LoginService, name: str) -> None:
    with pytest.raises(AuthenticationError, match="Authentication"):
        jwts.verify(ATTACKS[name])


@pytest.mark.parametrize(
    "token",
    [shared(), shared(aud=["other", "authenticated"]), shared(role="authenticated")]
    + [public(algorithm) for algorithm in ("RS256", "ES256", "EdDSA")],
)
def test_user_is_named_when_the_token_is_good(service: LoginService, token: str) -> None:
    assert jwts.verify(token) == USER


def test_user_is_named_when_the_clocks_differ_by_a_little(service: LoginService) -> None:
    now = int(time.time())
    assert jwts.verify(shared(exp=now - 1, nbf=now + 2, iat=now + 2)) == USER


def test_nobody_is_let_in_when_no_key_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "JWKS_URL", "ISSUER"):
        monkeypatch.delenv(f"UNITASK_JWT_{name}", raising=False)
    get_settings.cache_clear()
    for token in (shared(), public(), forged({"alg": "HS256"}, b"")):
        with pytest.raises(AuthenticationError):
            jwts.verify(token)
    get_settings.cache_clear()


def test_nobody_is_let_in_when_the_keys_cannot_be_had(service: LoginService) -> None:
    service.keys = None
    with pytest.raises(AuthenticationError, match="cannot be had"):
        jwts.verify(public())
    service.keys = []
    with pytest.raises(AuthenticationError):
        jwts.verify(public())


def test_new_key_is_found_when_keys_rotate(service: LoginService, monkeypatch: pytest.MonkeyPatch) -> None:
    all_keys, service.keys = service.keys, []
    keys = key_sets.KeySet(service.url)
    with pytest.raises(AuthenticationError):
        keys.find("RS256")
    service.keys = all_keys
    with pytest.raises(AuthenticationError):  # within the bound nobody is asked again
        keys.find("RS256")
    monkeypatch.setattr(key_sets, "REFETCH_SECONDS", 0)
    assert keys.find("RS256").key_id == "RS256"
    assert service.asked == 2


def test_login_service_is_asked_once_when_many_unknown_keys_are_named(service: LoginService) -> None:
    keys = key_sets.KeySet(service.url)
    for i in range(50):
        with pytest.raises(AuthenticationError):
            keys.find(f"unknown {i}")
    assert keys.find("ES256").key_id == "ES256"
    assert service.asked == 1


def test_known_keys_serve_on_and_end_when_the_login_service_is_away(
    service: LoginService, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = key_sets.KeySet(service.url)
    keys.find("RS256")
    service.keys = None
    monkeypatch.setattr(key_sets, "FRESH_SECONDS", -1)
    monkeypatch.setattr(key_sets, "REFETCH_SECONDS", -1)
    assert keys.find("RS256").key_id == "RS256"
    wait_until(lambda: service.asked == 2)
    monkeypatch.setattr(key_sets, "STALE_SECONDS", -1)
    with pytest.raises(AuthenticationError):
        keys.find("RS256")


def test_known_keys_are_found_at_once_and_others_in_time_when_the_login_service_hangs(
    service: LoginService, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = key_sets.KeySet(service.url)
    keys.find("RS256")
    monkeypatch.setattr(key_sets, "REFETCH_SECONDS", -1)
    monkeypatch.setattr(key_sets, "FETCH_SECONDS", 1.0)

    def find(kid: str) -> float:
        began = time.monotonic()
        with contextlib.suppress(AuthenticationError):
            keys.find(kid)
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent, ThreadPoolExecutor(20) as pool:
        keys.url = f"http://127.0.0.1:{silent.getsockname()[1]}/jwks"
        unknown = [pool.submit(find, f"unknown {i}") for i in range(20)]
        known = [find("RS256") for _ in range(50)]
        assert max(known) < 0.5
        assert max(one.result() for one in unknown) < 3, "all wait for one fetch, and not each for one of its own"


@pytest.mark.parametrize(("name", "value"), [("SECRET", "short"), ("JWKS_URL", "http://login.example/jwks")])
def test_settings_are_refused_when_they_are_unsafe(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"UNITASK_JWT_{name}", value)
    with pytest.raises(ValidationError):
        Settings()
