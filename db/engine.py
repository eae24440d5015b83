"""The connection pool to the tasks database."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import Engine, event
from sqlalchemy import create_engine as sqlalchemy_create_engine


def create_engine(url: str) -> Engine:
    """A pool on `url`; a connection that Postgres has dropped is noticed and replaced before it is used."""
    engine = sqlalchemy_create_engine(
        url,
        json_deserializer=read_json,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        connect_args={"application_name": "unitask", "connect_timeout": 10},
    )
    event.listen(engine, "connect", _read_every_time)
    return engine


def read_json(text: str | bytes) -> Any:
    """Return what a JSON column holds; of what Python cannot read, a text that says why.

    A number of five thousand digits, or lists a thousand deep, in one row would otherwise end every claim, and every
    list, that meets it.
    """
    try:
        return json.loads(text, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        return f"unreadable: {error}"


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return number


class _EveryTime(TimestamptzLoader):
    """Reads the times that Postgres has and Python has not as the first and the last one of Python's."""

    def load(self, data: Any) -> datetime:
        if bytes(data) == b"infinity" or len(bytes(data).partition(b"-")[0]) > 4:
            return datetime.max.replace(tzinfo=UTC)
        if bytes(data) == b"-infinity" or bytes(data).endswith(b"BC"):
            return datetime.min.replace(tzinfo=UTC)
        return super().load(data)


def _read_every_time(connection: Any, _: object) -> None:
    connection.adapters.register_loader("timestamptz", _EveryTime)
