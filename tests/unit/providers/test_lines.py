"""Tasks in line for room at a provider."""

from __future__ import annotations

import asyncio

from tasks_lib.providers.lines import Lines


def test_first_in_line_goes_first_when_a_job_ends() -> None:
    async def main() -> list[str]:
        lines, gone = Lines(), list[str]()

        async def stand(name: str) -> None:
            assert await lines.of("fal", 10).stand(name, 10)
            gone.append(name)

        waiting = [asyncio.create_task(stand(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        assert lines.places() is None, "a full line is for no claim at all"
        for _ in waiting:
            lines.left("fal")
            await asyncio.wait(waiting, timeout=0.2)
        lines.left("replicate")
        assert lines.places() == 2
        return gone

    assert asyncio.run(main()) == ["first", "second"]


def test_types_are_not_claimed_when_their_line_is_full() -> None:
    async def main() -> None:
        lines = Lines()
        waiting = [asyncio.create_task(lines.of("fal", 10).stand("qwen_image", 0.3)) for _ in range(2)]
        own = asyncio.create_task(lines.of("fal/somebody", 10).stand("z_image_turbo", 0.3))
        await asyncio.sleep(0)
        assert not await lines.of("fal", 10).stand("image_upscale", 10)
        assert set(lines.full_types()) == {"qwen_image", "image_upscale"}
        # Their time in line ends, though no job does.
        assert await asyncio.gather(*waiting, own) == [True] * 3
        assert lines.full_types() == []

    asyncio.run(main())


def test_place_is_free_again_when_its_task_was_cancelled() -> None:
    async def main() -> None:
        lines = Lines()
        line = lines.of("fal", 1)
        waiting = asyncio.create_task(line.stand("qwen_image", 10))
        await asyncio.sleep(0)
        assert line.places == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert line.places == 2

    asyncio.run(main())
