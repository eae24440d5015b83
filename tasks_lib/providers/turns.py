"""Who comes first is finished first: results that come all at once are not handled all at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

AT_ONCE = 4
LONGEST_SECONDS = 0.25


class Turns:
    """A few places for work that is short as a rule.

    Fifty results that share the processor are all ready at the end; in turn, the first is ready at once. Work that
    takes longer, as the download of a film, leaves its place to the next and goes on beside it.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the block or for a moment, whichever is shorter."""
        await self._places.acquire()
        with ExitStack() as place:
            place.callback(self._places.release)
            leaving = asyncio.get_running_loop().call_later(LONGEST_SECONDS, place.close)
            place.callback(leaving.cancel)
            yield
