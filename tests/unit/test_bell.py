"""Waiting for a ring ends when it is cancelled, whatever comes at the same moment."""

from __future__ import annotations

import asyncio

from tasks_lib.providers.waiting import WaitingQueues
from tasks_lib.queue.listening import Bell


def test_waiting_is_cancelled_when_the_bell_rings_at_that_moment() -> None:
    async def main() -> None:
        bell, queues = Bell(), WaitingQueues()
        waiting = [
            asyncio.ensure_future(bell.wait("gpu", 10)),
            asyncio.ensure_future(queues.of("fal", 10).wait("x", 10)),
        ]
        await asyncio.sleep(0)
        bell.ring("gpu")
        queues.job_ended("fal")
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        assert [one.cancelled() for one in waiting] == [True, True]

    asyncio.run(main())
