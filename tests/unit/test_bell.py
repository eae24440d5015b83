"""Waiting for a ring ends when it is cancelled, whatever comes at the same moment."""

from __future__ import annotations

import asyncio

from tasks_lib.providers.lines import Lines
from tasks_lib.queue.listening import Bell


def test_waiting_is_cancelled_when_the_bell_rings_at_that_moment() -> None:
    async def main() -> None:
        bell, lines = Bell(), Lines()
        waiting = [
            asyncio.ensure_future(bell.wait("gpu", 10)),
            asyncio.ensure_future(lines.of("fal", 10).stand("x", 10)),
        ]
        await asyncio.sleep(0)
        bell.ring("gpu")
        lines.left("fal")
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        assert [one.cancelled() for one in waiting] == [True, True]

    asyncio.run(main())
