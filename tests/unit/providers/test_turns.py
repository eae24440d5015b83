"""Results that come all at once are handled in turn."""

from __future__ import annotations

import asyncio

from tasks_lib.providers import turns
from tasks_lib.providers.turns import Turns


def test_first_is_finished_first_when_many_come_at_once() -> None:
    begun: list[int] = []
    ended: list[int] = []

    async def handle(places: Turns, index: int) -> None:
        async with places.turn():
            begun.append(index)
            assert len(begun) - len(ended) == 1
            for _ in range(3):
                await asyncio.sleep(0)
            ended.append(index)

    async def main() -> None:
        places = Turns()
        await asyncio.gather(*(handle(places, index) for index in range(50)))

    asyncio.run(main())
    assert begun == ended == list(range(50))


def test_others_go_on_when_some_take_long() -> None:
    async def main() -> None:
        places = Turns()
        end = asyncio.Event()

        async def film() -> None:
            async with places.turn():
                await end.wait()

        films = [asyncio.create_task(film()) for _ in range(3)]
        # They are in line before the others.
        await asyncio.sleep(0)
        async with asyncio.timeout(20 * turns.LONGEST_SECONDS):
            for _ in range(2):
                async with places.turn():
                    pass
        assert not any(task.done() for task in films)
        async with places.turn():
            end.set()
            await asyncio.gather(*films)
            # Whoever left the place in between does not take it from another at the end.
            assert places._place.locked()

    asyncio.run(main())
