"""Who waits by a watch that is over is answered at once, however late they come."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from tasks_lib.queue.listening import Bell
from tasks_lib.queue.watching import Watch, Watcher


def test_late_waiter_is_answered_when_the_watch_is_closed() -> None:
    """The stitch of a travel begins to wait when its segments have ended, which may be after its host let go."""

    async def wait() -> list[str]:
        watch = Watch(Watcher(Bell()))
        early = asyncio.ensure_future(watch.ended(uuid4()))
        await asyncio.sleep(0)
        watch.close("another worker goes on")
        late = uuid4()
        async with asyncio.timeout(1):
            answers = [await early, await watch.ended(late)]
        assert answers[1].task_id == late
        return [answer.status for answer in answers]

    assert asyncio.run(wait()) == ["Cancelled", "Cancelled"]


def test_others_wait_on_when_one_watch_is_closed() -> None:
    async def wait() -> bool:
        watcher, task_id = Watcher(Bell()), uuid4()
        closed, other = Watch(watcher), Watch(watcher)
        waiting = asyncio.ensure_future(other.ended(task_id))
        await asyncio.sleep(0)
        closed.close("its host ends")
        await asyncio.sleep(0)
        done = waiting.done()
        waiting.cancel()
        return done

    assert asyncio.run(wait()) is False
