"""The connection pool to the tasks database."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy import create_engine as sqlalchemy_create_engine


def create_engine(url: str) -> Engine:
    """A pool on `url`; a connection that Postgres has dropped is noticed and replaced before it is used."""
    return sqlalchemy_create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        connect_args={"application_name": "unitask", "connect_timeout": 10},
    )
