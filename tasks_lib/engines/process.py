"""The engine's own process, seen from its worker: started on demand, given one task at a time, renewed when worn.

A crash, an out-of-memory kill or a hung kernel costs one attempt and not the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import psutil

from tasks_lib import errors
from tasks_lib.queue import ClaimedTask, Lease, Output, Progress
from tasks_lib.settings import get_settings

logger = logging.getLogger(__name__)

START_SECONDS = 120
STOP_SECONDS = 10
# The process is renewed when it has grown by more than this since its first task.
GROWTH_BYTES = 4 << 30


class EngineProcess:
    """One engine process at a time; for a worker with several slots, make several of these."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._tasks = 0
        self._first_size = 0
        self._in_models = 0
        self.models: tuple[str, ...] = ()
        """The models that it holds: tasks of theirs are best given to it."""

    @property
    def pid(self) -> int | None:
        """The process, while one runs."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process and load its libraries, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self.kill()
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(  # noqa: ASYNC220  its pipe is ours, and a fork takes milliseconds
            [sys.executable, "-m", "tasks_lib.engines.serve", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            # Signals of a terminal or of the worker's group are for the worker, which decides about its engine.
            start_new_session=True,
        )
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._tasks = 0
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._next_message()
        except TimeoutError:
            self.kill()
            raise errors.EngineError(f"no engine process within {START_SECONDS} seconds", retryable=True) from None
        except asyncio.CancelledError:
            # What it says when it is ready would be taken for the answer to a task, and that answer for the next one's.
            self.kill()
            raise

    async def execute(self, task: ClaimedTask, report: Callable[[Progress], None]) -> Output:
        """Let the process execute a task. Cancelling this ends the work, and the process if it does not obey."""
        await self.start()
        assert self._pipe is not None
        try:
            await asyncio.to_thread(self._pipe.send, ("run", task))
            while True:
                kind, content = await self._next_message()
                if kind == "progress":
                    report(content)
                elif kind == "done":
                    return content  # type: ignore[no-any-return]
                else:
                    raise _error(content)
        except asyncio.CancelledError:
            try:
                await self._stop_work(task.lease)
            except asyncio.CancelledError:
                # Not even time to stop in order. A process that still works would answer the next task with this one.
                self.kill()
            raise
        finally:
            self._tasks += 1
            self._renew_if_worn()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self.models, self._in_models = (), 0
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    async def _next_message(self) -> tuple[str, Any]:
        """The next thing that it says about its task; what it says about itself is noted on the way."""
        while True:
            kind, content = await self._receive()
            if kind != "models":
                return kind, content
            self.models, self._in_models = content

    async def _receive(self) -> tuple[str, Any]:
        assert self._pipe is not None
        assert self._process is not None
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._pipe.fileno(), readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._pipe.fileno())
        try:
            return self._pipe.recv()  # type: ignore[no-any-return]
        except (EOFError, OSError):
            code = self._process.wait()
            self.kill()
            how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
            raise errors.EngineError(f"the engine process ended with {how}", retryable=True) from None

    async def _stop_work(self, lease: Lease) -> None:
        """Ask the work to stop, and do not ask twice: what hangs is killed."""
        if self._pipe is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.to_thread(self._pipe.send, ("cancel", lease))
                while (await self._next_message())[0] == "progress":
                    pass
        except (TimeoutError, OSError, errors.EngineError):
            self.kill()

    def _renew_if_worn(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        # What loaded models take is not wear: their cache has a bound of its own.
        size = psutil.Process(self._process.pid).memory_info().rss - self._in_models
        self._first_size = size if self._tasks == 1 else self._first_size
        if self._tasks >= get_settings().engine_max_tasks or size - self._first_size > GROWTH_BYTES:
            logger.info("the engine process is renewed after %d tasks at %d MiB", self._tasks, size >> 20)
            self.kill()


def _error(content: dict[str, Any]) -> errors.TaskError:
    if content["kind"] == "validation":
        return errors.TaskValidationError(content["message"], content["field"])
    if content["kind"] == "storage":
        return errors.StorageError(content["message"])
    return errors.EngineError(content["message"], retryable=content["retryable"])
