"""A worker of one's own, which enlarges pictures with Pillow: `python examples/own_worker.py [TASKS]`.

It takes tasks of the type `image_upscale` beside the workers of the platform, until it has done TASKS of them. It needs
a connection to the database and to the storage (UNITASK_DATABASE_URL, UNITASK_STORAGE_URL) and no token.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tasks_lib import queue, storage
from tasks_lib.errors import EngineError, LeaseLostError, TaskError
from tasks_lib.media.download import download
from tasks_lib.media.images import probe_image
from tasks_lib.types.registry import task_types

TASK_TYPE = "image_upscale"
HEARTBEAT_SECONDS = 5


def main(tasks: int | None) -> None:
    """Claim one task after the other, and execute it."""
    worker_id = f"pillow-{os.getpid()}"
    others = [name for name in task_types() if name != TASK_TYPE]
    queue.register_worker(worker_id, "gpu", slots=1)
    done = 0
    try:
        while tasks is None or done < tasks:
            claimed = queue.claim("gpu", worker_id, limit=1, without=others)
            if not claimed:
                time.sleep(1)
            for task in claimed:
                execute(task, worker_id)
                done += 1
    finally:
        queue.retire_worker(worker_id)


def execute(task: queue.ClaimedTask, worker_id: str) -> None:
    """Enlarge the task's picture; complete the task, or say why not."""
    with tempfile.TemporaryDirectory() as folder, heartbeats(worker_id, task.lease):
        try:
            queue.complete(task.lease, enlarge(task, Path(folder)))
            print(task.name, "is complete")
        except LeaseLostError:
            print(task.name, "was cancelled, or another worker has it")
        except TaskError as error:
            queue.fail(task.lease, error)
        except OSError as error:
            queue.fail(task.lease, EngineError(f"the picture cannot be enlarged: {error}"))


def enlarge(task: queue.ClaimedTask, folder: Path) -> queue.Output:
    """Return the enlarged picture, stored under a key that names task and lease."""
    source, larger = folder / "source", folder / "larger.png"
    reference, factor = task.params["image_url"], task.params["scale_factor"]
    if reference.startswith(storage.SCHEME):
        storage.fetch(storage.key_of(reference, task.project_id), source)
    else:
        download(reference, source)
    queue.report_progress(task.lease, queue.Progress(percent=50, message="enlarging"))
    with Image.open(source) as picture:
        size = round(picture.width * factor), round(picture.height * factor)
        picture.resize(size, Image.Resampling.LANCZOS).save(larger)
    key = storage.output_key(task.project_id, task.id, task.lease_id, larger.name)
    storage.put(larger, key)
    return queue.Output(key, {"media": probe_image(larger).as_dict(), "provenance": {"engine": "pillow"}})


@contextmanager
def heartbeats(worker_id: str, lease: queue.Lease) -> Iterator[None]:
    """Extend a lease in a thread for as long as the block runs; without this it ends after UNITASK_LEASE_SECONDS."""
    over = threading.Event()

    def beat() -> None:
        # Once the lease is lost, complete and fail raise `LeaseLostError`.
        while not over.wait(HEARTBEAT_SECONDS) and not queue.heartbeat(worker_id, [lease]).lost:
            pass

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
