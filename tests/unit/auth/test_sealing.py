"""A sealed token opens for its own request, in its time, with the service's key; and for nothing else."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks_lib.auth import sealing
from tasks_lib.auth.sealing import seal, unseal
from tasks_lib.errors import AuthenticationError
from tasks_lib.settings import get_settings

TOKEN = "utk_0123456789_" + "x" * 43
REQUEST = {"task_type": "travel_orchestrator", "params": {"strength": 1.0, "prompts": ["é"]}, "project_id": "p"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a key pair."""
    sealing.ensure_key_pair(tmp_path)
    monkeypatch.setenv("UNITASK_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def test_token_comes_back_when_request_key_and_time_are_right() -> None:
    sealed = seal(TOKEN, REQUEST)
    assert TOKEN not in sealed
    assert sealed != seal(TOKEN, REQUEST)
    # As Prefect's database gives it back.
    stored = {"project_id": "p", "params": {"prompts": ["é"], "strength": 1}, "task_type": "travel_orchestrator"}
    assert unseal(sealed, stored).get_secret_value() == TOKEN


def test_token_is_refused_when_it_comes_with_another_request() -> None:
    sealed = seal(TOKEN, REQUEST)
    for changed in ({"project_id": "q"}, {"params": {"strength": 2, "prompts": ["é"]}}, {"priority": 100}):
        with pytest.raises(AuthenticationError, match="does not belong"):
            unseal(sealed, {**REQUEST, **changed})


@pytest.mark.parametrize("seconds", [-sealing.SKEW_SECONDS - 601, 2 * sealing.SKEW_SECONDS])
def test_token_is_refused_when_its_time_is_over_or_too_far_away(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    sealed = seal(TOKEN, REQUEST)
    monkeypatch.setattr(time, "time", lambda: now)
    with pytest.raises(AuthenticationError, match="expired"):
        unseal(sealed, REQUEST)


def test_token_is_refused_when_a_bit_of_it_was_changed() -> None:
    sealed = seal(TOKEN, REQUEST)
    for place in range(len(sealing.MARK), len(sealed), 7):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(AuthenticationError):
            unseal(sealed[:place] + other + sealed[place + 1 :], REQUEST)
    for malformed in ("", "sealed1.", "sealed1.AAAA", "sealed2." + sealed[8:], "sealed1.\0", TOKEN):
        with pytest.raises(AuthenticationError):
            unseal(malformed, REQUEST)


def test_token_is_refused_when_it_was_sealed_for_another_service(home: Path) -> None:
    sealed = seal(TOKEN, REQUEST)
    (home / "keys" / "seal.key").unlink()
    sealing.ensure_key_pair(home)
    with pytest.raises(AuthenticationError, match="this service"):
        unseal(sealed, REQUEST)


def test_keys_are_for_their_owner_alone_and_stay_when_they_are_made_again(home: Path) -> None:
    private = home / "keys" / "seal.key"
    before = private.read_bytes()
    sealing.ensure_key_pair(home)
    assert private.read_bytes() == before
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert sorted(path.name for path in private.parent.iterdir()) == ["seal.key", "seal.pub"]


def test_sealing_says_what_to_do_when_there_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNITASK_HOME", str(tmp_path / "elsewhere"))
    get_settings.cache_clear()
    with pytest.raises(AuthenticationError, match="UNITASK_SEAL_PUBLIC_KEY"):
        seal(TOKEN, REQUEST)
    with pytest.raises(AuthenticationError, match="unitask deploy"):
        unseal("sealed1.AAAA", REQUEST)


@pytest.mark.parametrize(
    "other",
    [
        lambda text: text + " ",
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text + "=",
        lambda text: text + "====",
        lambda text: text.rstrip("="),
        lambda text: text.replace("sealed1.", "sealed1. "),
        lambda text: text.replace("sealed1.", ""),
        lambda text: text.upper(),
        lambda text: text.replace("-", "+").replace("_", "/"),
        lambda text: text.replace("A", "\uff21"),
        lambda text: text[:20] + "\n" + text[20:],
    ],
)
def test_token_is_refused_when_its_text_is_another_for_the_same_bytes(other: Callable[[str], str]) -> None:
    sealed = seal(TOKEN, REQUEST)
    while other(sealed) == sealed:
        sealed = seal(TOKEN + "x" * (len(sealed) % 3 + 1), REQUEST)
    assert unseal(sealed, REQUEST)
    with pytest.raises(AuthenticationError):
        unseal(other(sealed), REQUEST)
    with pytest.raises(AuthenticationError):
        sealing.digest(other(sealed))


def test_token_is_refused_when_its_last_letter_holds_bits_that_are_not_read() -> None:
    """Two letters before a padding hold more bits than the last byte has."""
    sealed = next(text for length in range(3) if (text := seal(TOKEN + "x" * length, REQUEST)).endswith("="))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = len(sealed.rstrip("=")) - 1
    other = sealed[:place] + letters[letters.index(sealed[place]) ^ 1] + sealed[place + 1 :]
    with pytest.raises(AuthenticationError):
        unseal(other, REQUEST)
