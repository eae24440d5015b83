"""Tasks that wait for room at a full provider: a few, so that the next one is there as soon as a job ends."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

PART_OF_CONCURRENCY = 5
LEAST = 2


class Line:
    """Who waits for room at an account, first come first served: a fifth of what may run there at once, or two."""

    def __init__(self, concurrency: int) -> None:
        self._most = max(LEAST, concurrency // PART_OF_CONCURRENCY)
        self._waiting: deque[asyncio.Event] = deque()
        self.types: set[str] = set()
        """The task types that have ever come here."""

    @property
    def places(self) -> int:
        """How many more may wait."""
        return self._most - len(self._waiting)

    async def stand(self, task_type: str, seconds: float) -> bool:
        """Wait until a job has ended, or so many seconds; False at once when the line is full."""
        self.types.add(task_type)
        if self.places < 1:
            return False
        place = asyncio.Event()
        self._waiting.append(place)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await place.wait()
        finally:
            with suppress(ValueError):
                self._waiting.remove(place)
        return True

    def call(self) -> None:
        """Let the first go."""
        if self._waiting:
            self._waiting.popleft().set()


class Lines:
    """The lines of all accounts at providers."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def of(self, account: str, concurrency: int) -> Line:
        """An account's line."""
        return self._lines.setdefault(account, Line(concurrency))

    def left(self, account: str) -> None:
        """A job of an account has ended: there is room for one more."""
        if line := self._lines.get(account):
            line.call()

    def places(self) -> int | None:
        """The fewest places in a line that is not full; None when no account was full yet."""
        return min((line.places for line in self._shared() if line.places > 0), default=None)

    def full_types(self) -> list[str]:
        """The types that full lines are for."""
        return [name for line in self._shared() if line.places < 1 for name in line.types]

    def _shared(self) -> list[Line]:
        # Users' own accounts (`fal/<id>`) keep nobody else from being claimed.
        return [line for account, line in self._lines.items() if "/" not in account]
