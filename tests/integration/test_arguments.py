"""Whatever a caller passes: an answer, or an error of the tree that says which argument is wrong, and nothing else."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import tasks_lib
from tasks_lib import queue
from tasks_lib.errors import DatabaseError, TaskError, TaskValidationError
from tests.conftest import Owner, make_owner

URL = "https://example.com/0.jpg"
WRONG: list[Any] = [None, "", " ", "nonsense", "\0", "\ud800", "x" * 5_000, 5, -1, 1.5, float("nan"), 10**30, True]
WRONG += [[], {}, [None], {"a": 1}, {5: 1}, b"x", object(), uuid4()]
FOR_EVER = {"timeout": {"None", "5", repr(10**30)}}
"""What is right, and would wait."""


def calls(owner: Owner, task: Any, shot: Any, picture: Path) -> dict[str, dict[str, Any]]:
    """Every public function with good arguments; all that it takes, but the token."""
    project, here = owner.project_id, {"project_id": owner.project_id}
    picture_of = {"task_type": "z_image_turbo", "params": {"prompt": "a"}}
    page = dict.fromkeys(
        ("project_id", "batch_id", "parent_task_id", "shot_id", "task_type", "status", "text", "after")
    )
    row = {**picture_of, **here, "idempotency_key": None, "depends_on": (), "priority": 0}
    edit = {**here, "prompt": "a", "image_url": URL}
    masked = {**edit, "mask_url": URL, "num_generations": 1}
    return {
        "create_task": {**row, "via": None, "token_block": None},
        "create_tasks": {"requests": [row]},
        "quote": {**picture_of, **here},
        "get_task": {"task_id": task},
        "list_tasks": {**page, "created_after": None, "created_before": None, "limit": 5},
        "list_dead_letters": {"project_id": project, "limit": 5},
        "cancel_task": {"task_id": task, "reason": "no"},
        "cancel_batch": {"batch_id": task, "reason": "no"},
        "retry_task": {"task_id": task},
        "upload_media": {"path": picture, **here},
        "wait_for_task": {"task_id": task, "timeout": 0.01},
        "watch_task": {"task_id": task, "after": 0, "timeout": 0.01},
        "watch_task_async": {"task_id": task, "after": 0},
        "watch_project": {**here, "after": 0, "timeout": 0.01},
        "watch_project_async": {**here, "after": 0},
        "last_event_id": here,
        "list_task_types": {},
        "create_project": {"name": "another", "aspect_ratio": "16:9", "user_id": owner.user_id},
        "list_projects": {"user_id": owner.user_id},
        "set_project": {**here, "name": "a project", "aspect_ratio": "1:1"},
        "create_shot": {**here, "name": "a shot"},
        "list_shots": here,
        "set_shot": {"shot_id": shot, "name": "a shot", "position": 1},
        "get_tree": {"task_id": task},
        "get_batch": {"batch_id": task},
        "get_history": {"generation_id": task},
        "media_url": {"location": f"{project}/uploads/a.png", "seconds": None},
        "create_template": {"name": "another", **picture_of, **here},
        "list_templates": here,
        "get_template": {"name": "a template", **here},
        "delete_template": {"name": "another", **here},
        "create_task_from_template": {"name": "a template", "overrides": None, **here, "priority": 0},
        "resolve_project_resolution": {**here, "custom_resolution": None},
        "expand_array_to_count": {"array": [1], "count": 2, "field": "a"},
        "validate_required_fields": {"params": {"a": 1}, "required_fields": ["a"]},
        "create_batch_image_generation_tasks": {**here, "prompts": ["a"], "images_per_prompt": 1, "seed_mode": None},
        "create_image_generation_task": {**here, "prompt": "a", "model_name": None, "depends_on": (), "priority": 0},
        "create_magic_edit_task": {**edit, "num_images": 1},
        "create_image_inpaint_task": masked,
        "create_annotated_image_edit_task": masked,
        "create_image_upscale_task": {**here, "image_url": URL, "scale_factor": 2},
        "create_replicate_upscale_task": {**here, "image_url": URL},
        "create_character_animate_task": {**here, "character_image_url": URL, "motion_video_url": URL},
        "create_join_clips_task": {**here, "clips": [{"url": URL}, {"url": URL}]},
        "create_travel_between_images_task": {**here, "image_urls": [URL], "base_prompts": ["a"], "turbo_mode": False},
        "create_individual_travel_segment_task": {**here, "start_image_url": URL, "segment_index": 0},
        "generate_task_id": {},
        "generate_run_id": {},
    }


def ask(name: str, given: dict[str, Any]) -> None:
    """Call, and take the first of what comes."""
    answer = getattr(tasks_lib, name)(**given)
    if isinstance(answer, Iterator):
        next(answer)
    elif isinstance(answer, AsyncIterator):

        async def first() -> None:
            async with asyncio.timeout(0.05):
                await anext(answer)

        asyncio.run(first())


def complaint(name: str, given: dict[str, Any]) -> str | None:
    """What is wrong with the way in which a call ends."""
    try:
        ask(name, given)
    except DatabaseError as error:
        return f"blames the database: {error}"
    except TaskValidationError as error:
        return None if error.field else f"names no field: {error}"
    except (TaskError, TimeoutError):
        return None
    except Exception as error:  # noqa: BLE001  whatever it is
        return f"raises {type(error).__name__}: {error}"
    return None


def test_wrong_argument_is_named_when_any_public_function_is_called(owner: Owner, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    task = tasks_lib.create_task("z_image_turbo", {"prompt": "a"}, project_id=owner.project_id).task_id
    tasks_lib.create_template("a template", "z_image_turbo", {"prompt": "a"}, project_id=owner.project_id)
    shot = tasks_lib.create_shot("a shot", project_id=owner.project_id).id
    functions = calls(owner, task, shot, picture)
    assert set(functions) == {name for name in tasks_lib.__all__ if inspect.isfunction(getattr(tasks_lib, name))}
    complaints = [
        f"{name}({argument}={value!r:.40}) {wrong}"
        for name, good in functions.items()
        for argument in [*good, *(["token"] if "project_id" in good or "task_id" in good else [])]
        for value in WRONG
        if repr(value) not in FOR_EVER.get(argument, ())
        if (wrong := complaint(name, {**good, argument: value}))
    ]
    assert complaints == []


@pytest.mark.parametrize(
    ("call", "arguments", "field", "text"),
    [
        ("get_task", {"task_id": None}, "task_id", "must be a UUID or its text, not NoneType"),
        ("list_tasks", {"status": "Done"}, "status", "there is no status 'Done'; there are Pending, Processing"),
        ("list_tasks", {"limit": 0}, "limit", "greater than or equal to 1"),
        ("list_tasks", {"created_after": "yesterday"}, "created_after", "valid datetime"),
        ("list_tasks", {"projectid": "x"}, "projectid", "Unexpected keyword argument"),
        ("create_task", {"task_type": "single_image", "params": {}}, "project_id", "Missing required"),
        ("create_tasks", {"requests": [{"task_typ": "a"}]}, "task_type", "did you mean `task_type`?"),
        ("create_tasks", {"requests": {"task_type": "a"}}, "requests", "a batch is a list of tasks, not dict"),
    ],
)
def test_reason_is_plain_when_an_argument_is_wrong(
    owner: Owner, call: str, arguments: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(TaskValidationError) as refused:
        getattr(tasks_lib, call)(**arguments)
    assert refused.value.field == field
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"run_type": "cpu"}, "run_type"),
        ({"worker_id": ""}, "worker_id"),
        ({"limit": -1}, "limit"),
        ({"models": "a"}, "models"),
    ],
)
def test_claim_is_refused_when_a_workers_author_is_mistaken(
    owner: Owner, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(TaskValidationError) as refused:
        queue.claim(**{"run_type": "gpu", "worker_id": "w", **arguments})
    assert refused.value.field == field


def test_task_is_not_made_by_the_wrong_door_when_via_is_misspelt(owner: Owner) -> None:
    via: Any = "deploymet"
    with pytest.raises(TaskValidationError, match="`via`: Input should be 'deployment'"):
        tasks_lib.create_task("z_image_turbo", {"prompt": "a"}, project_id=owner.project_id, via=via)
    assert tasks_lib.list_tasks() == []


def test_project_without_tasks_has_an_empty_list_and_an_anothers_too(owner: Owner) -> None:
    for project in (owner.project_id, make_owner("another").project_id, uuid4()):
        assert tasks_lib.list_tasks(project_id=project) == []
