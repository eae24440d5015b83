"""Tasks that wait for room at a provider."""

from __future__ import annotations

import asyncio

from tasks_lib.providers.waiting import WaitingQueues


def test_first_of_the_queue_goes_first_when_a_job_ends() -> None:
    async def main() -> list[str]:
        queues, gone = WaitingQueues(), list[str]()

        async def wait_for_room(name: str) -> None:
            assert await queues.of("fal", 10).wait(name, 10)
            gone.append(name)

        waiting = [asyncio.create_task(wait_for_room(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        assert queues.free_places() is None, "a full queue is for no claim at all"
        for _ in waiting:
            queues.job_ended("fal")
            await asyncio.wait(waiting, timeout=0.2)
        queues.job_ended("replicate")
        assert queues.free_places() == 2
        return gone

    assert asyncio.run(main()) == ["first", "second"]


def test_types_are_not_claimed_when_their_line_is_full() -> None:
    async def main() -> None:
        queues = WaitingQueues()
        waiting = [asyncio.create_task(queues.of("fal", 10).wait("qwen_image", 0.3)) for _ in range(2)]
        own = asyncio.create_task(queues.of("fal/somebody", 10).wait("z_image_turbo", 0.3))
        await asyncio.sleep(0)
        assert not await queues.of("fal", 10).wait("image_upscale", 10)
        assert set(queues.full_types()) == {"qwen_image", "image_upscale"}
        # Their time in the queue ends, though no job does.
        assert await asyncio.gather(*waiting, own) == [True] * 3
        assert queues.full_types() == []

    asyncio.run(main())


def test_place_is_free_again_when_its_task_was_cancelled() -> None:
    async def main() -> None:
        queues = WaitingQueues()
        queue = queues.of("fal", 1)
        waiting = asyncio.create_task(queue.wait("qwen_image", 10))
        await asyncio.sleep(0)
        assert queue.free_places == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert queue.free_places == 2

    asyncio.run(main())
