"""Enlarge several pictures in one batch, and show how far it is: `python examples/batch.py PROJECT PICTURE...`.

Needs a platform (`unitask up`) and a token in UNITASK_TOKEN.
"""

from __future__ import annotations

import sys
import time

from rich.progress import Progress

from tasks_lib import create_tasks, get_batch, get_task, upload_media


def main(project: str, *pictures: str) -> None:
    """Create one task for each picture, all of them or none, and wait for their ends."""
    created = create_tasks(
        [
            {
                "task_type": "image_upscale",
                "project_id": project,
                "params": {"image_url": upload_media(picture, project_id=project), "scale_factor": 2},
                "idempotency_key": f"enlarge {picture}",  # a repeated run enlarges nothing twice
            }
            for picture in pictures
        ]
    )
    with Progress() as progress:
        bar = progress.add_task("pictures", total=len(created))
        while not progress.finished:
            time.sleep(0.5)
            counts = {status: part.tasks for status, part in get_batch(created[0].task_id).by_status.items()}
            ended = sum(counts.get(status, 0) for status in ("Complete", "Failed", "Cancelled"))
            progress.update(bar, completed=ended)
    for picture, one in zip(pictures, created, strict=True):
        task = get_task(one.task_id)
        print(picture, task.status, task.output_url or task.error_message)


if __name__ == "__main__":
    main(*sys.argv[1:])
