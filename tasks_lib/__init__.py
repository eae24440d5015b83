"""Unitask's library. What callers use is here; the first use of a name loads its module, and nothing before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks_lib.client import (
        Task,
        cancel_batch,
        cancel_task,
        get_task,
        list_dead_letters,
        list_tasks,
        retry_task,
        upload_media,
    )
    from tasks_lib.creation import (
        Dependency,
        TaskCreated,
        TaskRequest,
        create_task,
        create_tasks,
        expand_array_to_count,
        generate_run_id,
        generate_task_id,
        quote,
        validate_required_fields,
    )
    from tasks_lib.events import Event
    from tasks_lib.helpers import (
        create_annotated_image_edit_task,
        create_batch_image_generation_tasks,
        create_character_animate_task,
        create_image_generation_task,
        create_image_inpaint_task,
        create_image_upscale_task,
        create_individual_travel_segment_task,
        create_join_clips_task,
        create_magic_edit_task,
        create_replicate_upscale_task,
        create_travel_between_images_task,
    )
    from tasks_lib.resolution import resolve_project_resolution
    from tasks_lib.results import Batch, Step, TaskTree, get_batch, get_history, get_tree, media_url
    from tasks_lib.templates import (
        create_task_from_template,
        create_template,
        delete_template,
        get_template,
        list_templates,
    )
    from tasks_lib.watch import (
        last_event_id,
        wait_for_task,
        watch_project,
        watch_project_async,
        watch_task,
        watch_task_async,
    )

_HOMES = {
    "tasks_lib.client": (
        "Task",
        "cancel_batch",
        "cancel_task",
        "get_task",
        "list_dead_letters",
        "list_tasks",
        "retry_task",
        "upload_media",
    ),
    "tasks_lib.creation": (
        "Dependency",
        "TaskCreated",
        "TaskRequest",
        "create_task",
        "create_tasks",
        "expand_array_to_count",
        "generate_run_id",
        "generate_task_id",
        "quote",
        "validate_required_fields",
    ),
    "tasks_lib.events": ("Event",),
    "tasks_lib.helpers": (
        "create_annotated_image_edit_task",
        "create_batch_image_generation_tasks",
        "create_character_animate_task",
        "create_image_generation_task",
        "create_image_inpaint_task",
        "create_image_upscale_task",
        "create_individual_travel_segment_task",
        "create_join_clips_task",
        "create_magic_edit_task",
        "create_replicate_upscale_task",
        "create_travel_between_images_task",
    ),
    "tasks_lib.resolution": ("resolve_project_resolution",),
    "tasks_lib.results": ("Batch", "Step", "TaskTree", "get_batch", "get_history", "get_tree", "media_url"),
    "tasks_lib.templates": (
        "create_task_from_template",
        "create_template",
        "delete_template",
        "get_template",
        "list_templates",
    ),
    "tasks_lib.watch": (
        "last_event_id",
        "wait_for_task",
        "watch_project",
        "watch_project_async",
        "watch_task",
        "watch_task_async",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Dependency",
    "Event",
    "Step",
    "Task",
    "TaskCreated",
    "TaskRequest",
    "TaskTree",
    "cancel_batch",
    "cancel_task",
    "create_annotated_image_edit_task",
    "create_batch_image_generation_tasks",
    "create_character_animate_task",
    "create_image_generation_task",
    "create_image_inpaint_task",
    "create_image_upscale_task",
    "create_individual_travel_segment_task",
    "create_join_clips_task",
    "create_magic_edit_task",
    "create_replicate_upscale_task",
    "create_task",
    "create_task_from_template",
    "create_tasks",
    "create_template",
    "create_travel_between_images_task",
    "delete_template",
    "expand_array_to_count",
    "generate_run_id",
    "generate_task_id",
    "get_batch",
    "get_history",
    "get_task",
    "get_template",
    "get_tree",
    "last_event_id",
    "list_dead_letters",
    "list_tasks",
    "list_templates",
    "media_url",
    "quote",
    "resolve_project_resolution",
    "retry_task",
    "upload_media",
    "validate_required_fields",
    "wait_for_task",
    "watch_project",
    "watch_project_async",
    "watch_task",
    "watch_task_async",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module `tasks_lib` has no attribute `{name}`")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
