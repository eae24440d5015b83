"""Who comes first is finished first: results that come all at once are not handled all at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

LONGEST_SECONDS = 0.1


class Turns:
    """One place for work that is short as a rule.

    Fifty results that share the processor are all ready at the end; in turn, the first is ready at once, and meanwhile
    the next jobs begin. Work that takes longer, as the download of a film, leaves its place to the next and goes on
    beside it: ten a second may begin.
    """

    def __init__(self) -> None:
        self._place = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the place, and hold it for the block or for a moment, whichever is shorter."""
        await self._place.acquire()
        with ExitStack() as held:
            held.callback(self._place.release)
            leaving = asyncio.get_running_loop().call_later(LONGEST_SECONDS, held.close)
            held.callback(leaving.cancel)
            yield
