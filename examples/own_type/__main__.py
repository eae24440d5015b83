"""A task type that lies outside of Unitask's own folder: `python examples/own_type PROJECT PICTURE`.

The type is the module beside this file, as docs/adding-a-task-type.md explains it. Here one process does it all: it
makes the type known, writes its row, creates a task of it and executes that. Workers of the platform find a type only
in `tasks_lib/types/`: copy the module there to have them execute it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tasks_lib.types
from tasks_lib import create_task, database, get_task, queue, upload_media
from tasks_lib.engines.bench import Bench
from tasks_lib.types import registry, table

HERE = Path(__file__).parent
WORKER = "own-type"


def main(project: str, picture: str) -> None:
    """Turn a picture by 90 degrees."""
    tasks_lib.types.__path__.append(str(HERE))
    declared = registry.get_task_type("rotate_image")
    table.sync(database.get_engine())
    image = upload_media(picture, project_id=project)
    created = create_task(declared.name, {"image_url": image, "degrees": 90}, project_id=project)

    (task,) = queue.claim(declared.run_type, WORKER, task_id=created.task_id)
    with tempfile.TemporaryDirectory() as folder:

        def report(progress: queue.Progress) -> None:
            queue.report_progress(task.lease, progress)

        assert declared.execute is not None
        queue.complete(task.lease, declared.execute(Bench(task, Path(folder), report, lambda: False)))
    done = get_task(created.task_id)
    print(done.status, done.output_url)


if __name__ == "__main__":
    main(*sys.argv[1:])
