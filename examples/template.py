"""Keep the settings of films under a name, and make one with them: `python examples/template.py PROJECT PICTURE...`.

Needs a platform (`unitask up`) and a token in UNITASK_TOKEN.
"""

from __future__ import annotations

import sys

from tasks_lib import create_task_from_template, create_template, upload_media, wait_for_task


def main(project: str, *pictures: str) -> None:
    """Store the template, and make one film from it with a prompt and a priority of its own."""
    settings = {"segment_frames": 9, "resolution": "128x128", "base_prompts": ["a walk"]}
    template = create_template(
        "short films", "travel_orchestrator", settings, project_id=project, open_fields=["image_urls"]
    )
    images = [upload_media(picture, project_id=project) for picture in pictures]
    created = create_task_from_template(
        template.name,
        {"image_urls": images, "base_prompts": ["a walk at night"]},  # instead of the template's prompt
        project_id=project,
        priority=10,
    )
    task = wait_for_task(created.task_id, timeout=300)
    print(task.status, task.output_url or task.error_message)


if __name__ == "__main__":
    main(*sys.argv[1:])
