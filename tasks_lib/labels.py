"""Readable labels that are kept inside params: for people and file names, never keys."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def generate_task_id(task_type_prefix: str) -> str:
    """`<prefix>_<YYMMDDHH>_<6 hex digits>`, in UTC."""
    return f"{task_type_prefix}_{datetime.now(UTC):%y%m%d%H}_{secrets.token_hex(3)}"


def generate_run_id() -> str:
    """17 digits: the UTC time to the millisecond."""
    return f"{datetime.now(UTC):%Y%m%d%H%M%S%f}"[:17]
