"""Keep secrets out of logs and stored texts: whatever looks like a credential, or is one of ours, becomes `***`."""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

from pydantic import SecretStr

from tasks_lib.errors import TaskError
from tasks_lib.settings import get_settings

HIDDEN = "***"

_PATTERNS = [
    # Personal tokens keep their visible prefix, by which people find and revoke them.
    (re.compile(r"\b(utk_[0-9a-f]{10})_[\w-]+"), rf"\1_{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?"), HIDDEN),
    (re.compile(r"\b(Bearer)\s+[\w.~+/=:-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"""(?ix)\b(authorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token|key)\s+)?)
            (?!(?:bearer|basic|token|key)\s)[\w.~+/=:-]{6,}"""
        ),
        rf"\1{HIDDEN}",
    ),
    # The password of a database's or a web address.
    (re.compile(r"(\w://[^\s/:@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
    # Signatures and keys in queries and in texts of the form name=value or "name": "value".
    (
        re.compile(
            r"""(?ix)\b([\w-]*(?:signature|credential|token|secret|password|passwd|api[_-]?key|service[_-]?key))
            (["']?\s*[=:]\s*["']?)(?!\*{3})[^\s"'&,;}]{6,}"""
        ),
        rf"\1\2{HIDDEN}",
    ),
]


def mask(text: str) -> str:
    """The text without what looks like a credential, and without the values of our own secret settings."""
    for secret in _own_secrets():
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def mask_logs() -> None:
    """Mask every record that this process logs, exceptions included, before any handler sees it; safe to repeat.

    For processes that are ours (flows, the command line): it applies to all loggers.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            return record  # a message that does not fit its arguments: the handler reports it
        record.msg, record.args = mask(message), None
        if record.exc_info and record.exc_info[0] is not None:
            # Formatters take this text and do not look at the exception again.
            record.exc_text = mask("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    masked.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(masked)


def _own_secrets() -> list[str]:
    try:
        settings = get_settings()
    except TaskError:  # settings that are wrong stop the process elsewhere, with a better text
        return []
    values = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    return [value for value in values if len(value) >= 6]
