"""Whatever is logged, and however: no credential is in it."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Iterator

import pytest

from tasks_lib.errors import TaskValidationError
from tasks_lib.masking import mask, mask_logs
from tasks_lib.settings import Settings, get_settings

SECRETS = {
    "utk_0123456789_" + "s3cret" * 7 + "x": "utk_0123456789_***",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzM2NyZXQifQ.s3cret_s3cret": "***",
    "Authorization: Bearer s3cret-s3cret": "Authorization: Bearer ***",
    "Authorization: Key s3cret:s3cret": "Authorization: Key ***",
    "postgresql+psycopg://me:s3cret@host/db": "postgresql+psycopg://me:***@host/db",
    "https://x.example/a.png?X-Amz-Signature=s3crets3cret&b=1": "https://x.example/a.png?X-Amz-Signature=***&b=1",
    '{"api_key": "s3cret-s3cret", "a": 1}': '{"api_key": "***", "a": 1}',
    "REPLICATE_API_TOKEN=s3cret-s3cret": "REPLICATE_API_TOKEN=***",
    "the s3cret service key": "the ***",
}


@pytest.fixture(autouse=True)
def service_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("UNITASK_SERVICE_KEY", "s3cret service key")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_every_secret_setting_is_hidden_when_it_stands_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation)]
    assert {"service_key", "token", "jwt_secret", "seal_private_key", "replicate_token", "fal_key"} <= set(names)
    for name in names:
        monkeypatch.setenv(f"UNITASK_{name.upper()}", f"hidden value of the setting {name}")
    get_settings.cache_clear()
    for name in names:
        assert mask(f"<hidden value of the setting {name}>") == "<***>"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a handler writes while records are masked."""
    factory = logging.getLogRecordFactory()
    mask_logs()
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logging.getLogger("anybody").addHandler(handler)
    yield written
    logging.getLogger("anybody").removeHandler(handler)
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize("text", SECRETS)
def test_secret_is_hidden_when_it_stands_in_a_text(text: str) -> None:
    assert mask(text) == SECRETS[text]
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "there is no key segment_frames and no token unknown_name",
        "task 7f3a is Failed: the token is unknown, expired or revoked",
        "key=1 tokens: 512",
        "a://b/c:d@e",
    ],
)
def test_text_stays_when_it_holds_no_secret(text: str) -> None:
    assert mask(text) == text


def test_log_holds_no_secret_when_messages_arguments_and_exceptions_do(log: io.StringIO) -> None:
    logger = logging.getLogger("anybody")
    for text in SECRETS:
        logger.warning("said %s", text)
        logger.warning(text.replace("%", "%%"))
        logger.warning("%s", {"nested": [text]})
        try:
            try:
                raise ValueError(text)
            except ValueError as error:
                raise RuntimeError(f"because of {text}") from error
        except RuntimeError:
            logger.exception("it failed with %s", text)
    assert "s3cret" not in log.getvalue()
    assert log.getvalue().count("Traceback") == 2 * len(SECRETS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "s3cret"),
        ("JWT_JWKS_URL", "http://me:s3cret@login.example/keys"),
        ("PROVIDERS", '{"s3cret": '),
        ("PROVIDERS", '{"s3cret": 3}'),
    ],
)
def test_variable_is_named_and_its_value_hidden_when_a_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"UNITASK_{name}", value)
    get_settings.cache_clear()
    with pytest.raises(TaskValidationError, match=f"(?i){name}") as caught:
        get_settings()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert mask("a text") == "a text"


def test_records_are_masked_once_when_it_is_asked_twice(log: io.StringIO) -> None:
    factory = logging.getLogRecordFactory()
    mask_logs()
    assert logging.getLogRecordFactory() is factory
