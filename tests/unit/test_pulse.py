"""The heart of a worker, without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tasks_lib.errors import DatabaseError
from tasks_lib.queue.pulse import Pulse
from tasks_lib.settings import Settings


def test_heart_goes_on_when_a_beat_failed_for_any_reason() -> None:
    beats: list[str] = []

    async def main() -> None:
        heard = asyncio.Event()

        def beat() -> Callable[[], None]:
            beats.append("beat")
            if len(beats) == 1:
                raise DatabaseError("away")
            if len(beats) == 2:
                raise RuntimeError("nobody foresaw this")
            return heard.set

        pulse = Pulse(beat, lambda: lambda: None, Settings(heartbeat_seconds=0.01, progress_seconds=0.01))
        pulse.start()
        try:
            await asyncio.wait_for(heard.wait(), 20)
        finally:
            await asyncio.to_thread(pulse.stop)

    asyncio.run(main())
    assert len(beats) >= 3
