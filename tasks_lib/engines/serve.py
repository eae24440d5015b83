"""The engine process: takes tasks over a pipe, executes one at a time, and ends when its worker is gone."""

from __future__ import annotations

import logging
import os
import queue
import sys
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tasks_lib.engines.base import Cancelled
from tasks_lib.engines.bench import Bench, execute
from tasks_lib.engines.cache import warm_models
from tasks_lib.errors import TaskError, unforeseen
from tasks_lib.queue import ClaimedTask, Lease, Progress

logger = logging.getLogger(__name__)


def serve(pipe: Connection) -> None:
    """Execute what comes over the pipe, until it closes."""
    todo: queue.SimpleQueue[ClaimedTask] = queue.SimpleQueue()
    # By lease: a cancel that crosses the end of its task must not hit the next one.
    cancelled: set[Lease] = set()
    threading.Thread(target=_listen, args=(pipe, todo, cancelled), daemon=True).start()
    pipe.send(("ready", os.getpid()))
    while True:
        answer = _execute(todo.get(), pipe, cancelled)
        # Before the answer: the worker claims as soon as it has that.
        pipe.send(("models", (warm_models().aliases, warm_models().bytes_in_ram)))
        pipe.send(answer)


def _listen(pipe: Connection, todo: queue.SimpleQueue[ClaimedTask], cancelled: set[Lease]) -> None:
    """A thread of its own, so that a cancel is heard, and the worker's end noticed, in the middle of a task."""
    try:
        while True:
            kind, content = pipe.recv()
            if kind == "run":
                todo.put(content)
            else:
                cancelled.add(content)
    except (EOFError, OSError):
        os._exit(0)


def _execute(task: ClaimedTask, pipe: Connection, cancelled: set[Lease]) -> tuple[str, Any]:
    def report(progress: Progress) -> None:
        pipe.send(("progress", progress))

    try:
        with tempfile.TemporaryDirectory(prefix="unitask-") as folder:
            return "done", execute(Bench(task, Path(folder), report, lambda: task.lease in cancelled))
    except Cancelled:
        return "failed", {"kind": "cancelled", "message": "it was cancelled", "retryable": False}
    except TaskError as error:
        return "failed", {
            "kind": error.kind,
            "message": str(error),
            "retryable": error.retryable,
            "field": getattr(error, "field", None),
        }
    except MemoryError:
        return "failed", {"kind": "engine", "message": "out of memory", "retryable": True}
    except Exception as error:
        logger.exception("%s failed in a way that nobody foresaw", task.name)
        said = unforeseen(error)
        return "failed", {"kind": said.kind, "message": str(said), "retryable": said.retryable}


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
