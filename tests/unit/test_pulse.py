"""The heart of a worker, without a database."""

from __future__ import annotations

import asyncio
import threading
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
            pulse.stop()
            await asyncio.to_thread(pulse.join)

    asyncio.run(main())
    assert len(beats) >= 3


def test_heart_ends_by_itself_when_its_loop_was_closed_under_it() -> None:
    async def main() -> Pulse:
        beaten = asyncio.Event()
        pulse = Pulse(lambda: beaten.set, lambda: lambda: None, Settings(heartbeat_seconds=0.01, progress_seconds=0.01))
        pulse.start()
        await asyncio.wait_for(beaten.wait(), 20)
        return pulse

    ending = threading.Thread(target=asyncio.run(main()).join)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()
