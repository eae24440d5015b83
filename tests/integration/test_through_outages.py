"""What cannot be known again is stored through an outage, and a statement that is refused is not tried for ever."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import database
from tasks_lib.errors import DatabaseError


def refuse() -> None:
    with database.transaction() as connection:
        connection.execute(sa.insert(tables.users).values(name=None))


@pytest.mark.usefixtures("database_url")
def test_refused_statement_is_raised_when_it_was_to_be_stored_through_outages() -> None:
    async def main() -> None:
        async with asyncio.timeout(3 * database.OUTAGE_RETRY_SECONDS):
            await database.through_outages(refuse)

    with pytest.raises(DatabaseError) as caught:
        asyncio.run(main())
    assert caught.value.sqlstate == "23502"


def test_statement_is_tried_again_when_the_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OUTAGE_RETRY_SECONDS", 0.01)
    tries: list[int] = []

    def write(value: int) -> int:
        tries.append(value)
        if len(tries) < 3:
            raise DatabaseError("the server is away", "57P01")
        return value

    assert asyncio.run(database.through_outages(write, 7)) == 7
    assert tries == [7, 7, 7]
