"""The helpers as the specification shows them: an object, a dictionary or keywords, and the same row from each."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

import tasks_lib
from db import tables
from tasks_lib import database, keywords_writer
from tasks_lib.errors import TaskError, TaskValidationError
from tests.conftest import Owner
from tests.integration.types.test_golden_rows import GOLDEN, rows_of, world

__all__ = ["world"]

OBJECTS = {
    "create_task": "BaseTaskParams",
    "create_travel_between_images_task": "TravelBetweenImagesTaskParams",
    "create_image_generation_task": "ImageGenerationTaskParams",
    "create_batch_image_generation_tasks": "BatchImageGenerationTaskParams",
    "create_magic_edit_task": "MagicEditTaskParams",
    "create_image_inpaint_task": "ImageInpaintTaskParams",
    "create_annotated_image_edit_task": "AnnotatedImageEditTaskParams",
    "create_image_upscale_task": "ImageUpscaleTaskParams",
    "create_character_animate_task": "CharacterAnimateTaskParams",
    "create_join_clips_task": "JoinClipsTaskParams",
    "create_individual_travel_segment_task": "IndividualTravelSegmentTaskParams",
    "create_replicate_upscale_task": "ReplicateUpscaleTaskParams",
}
FIRST = {"create_task": "task_type"}
URL = "https://example.com/1.jpg"


def params_of(task: Any) -> dict[str, Any]:
    return tasks_lib.get_task(task.task_id).params


def new_rows() -> list[dict[str, Any]]:
    """The rows that are stored, which are then taken away."""
    found = rows_of(sa.true())
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.credit_ledger))
        connection.execute(sa.delete(tables.tasks))
    for row in found:
        # Drawn anew for every task.
        row["params"].pop("seed", None)
        row["params"].get("orchestrator_details", {}).pop("seed", None)
    return found


def test_row_is_the_golden_one_when_an_object_a_dictionary_or_keywords_are_given(world: Owner) -> None:
    called = set()
    for path in sorted(GOLDEN.glob("*.json")):
        golden = json.loads(path.read_text())
        request = {"project_id": str(world.project_id), **golden["request"]}
        create = getattr(tasks_lib, golden["call"])
        if golden["call"] == "create_task":
            request = {"project_id": world.project_id, "task_type": path.stem, "params": golden["request"]}
        kind = getattr(tasks_lib, OBJECTS[golden["call"]])
        ways = [
            partial(create, kind(**request)),
            partial(create, **{FIRST.get(golden["call"], "params"): kind(**request)}),
            partial(create, request),
            partial(create, **request),
        ]
        called.add(golden["call"])
        stored = []
        for way in ways:
            way()
            stored.append(new_rows())
        assert stored[0], path.stem
        assert all(rows == stored[0] for rows in stored), path.stem
    assert called >= set(OBJECTS) - {"create_batch_image_generation_tasks"}


def test_picture_is_made_as_the_specification_shows_it(owner: Owner) -> None:
    shot = tasks_lib_shot(owner)
    created = tasks_lib.create_image_generation_task(
        tasks_lib.ImageGenerationTaskParams(
            project_id=str(owner.project_id),
            prompt="A lake below mountains",
            seed=4711,
            loras=[{"path": "/models/one", "strength": 0.7}],
            shot_id=shot,
        )
    )
    params = params_of(created)
    assert (params["seed"], params["loras"]) == (4711, [{"path": "/models/one", "strength": 0.7}])


def test_batch_is_made_as_the_specification_shows_it(owner: Owner) -> None:
    batch = tasks_lib.BatchImageGenerationTaskParams(
        project_id=str(owner.project_id),
        prompts=[
            {"id": "1", "fullPrompt": "The sea at dawn", "shortPrompt": "Sea"},
            {"id": "2", "fullPrompt": "A forest in snow", "shortPrompt": "Forest"},
            tasks_lib.BatchPrompt(full_prompt="A street at night"),
        ],
        imagesPerPrompt=2,
        loras=({"path": "/models/one", "strength": 0.7},),
        shot_id=tasks_lib_shot(owner),
    )
    assert (batch.images_per_prompt, batch.prompts[0].short_prompt) == (2, "Sea")
    created = tasks_lib.create_batch_image_generation_tasks(batch)
    assert [params_of(task)["prompt"] for task in created][::2] == [
        "The sea at dawn", "A forest in snow", "A street at night",
    ]  # fmt: skip
    assert len(created) == 6


def test_travel_is_made_of_shared_groups_as_the_specification_shows_it(owner: Owner) -> None:
    structure = tasks_lib.VideoStructureApiParams(structure_video_path="https://example.com/a.mp4")
    params = tasks_lib.TravelBetweenImagesTaskParams(
        project_id=owner.project_id,
        image_urls=[URL, URL],
        base_prompts=["a walk"],
        segment_frames=9,
        **{**tasks_lib.DEFAULT_VIDEO_STRUCTURE_PARAMS, **structure.model_dump(exclude_unset=True)},
    )
    details = params_of(tasks_lib.create_travel_between_images_task(params))["orchestrator_details"]
    assert details["structure_video_path"] == "https://example.com/a.mp4"
    assert details["structure_video_treatment"] == "adjust"
    turbo = tasks_lib.create_travel_between_images_task(params, turbo_mode=True)
    assert turbo.task_type == "wan_2_2_i2v"


def tasks_lib_shot(owner: Owner) -> str:
    with database.transaction() as connection:
        shot = sa.insert(tables.shots).values(project_id=owner.project_id, name="a shot").returning(tables.shots.c.id)
        return str(connection.execute(shot).scalar_one())


def test_error_names_the_field_when_an_object_is_made_of_something_wrong(owner: Owner) -> None:
    for name, wrong, field in (
        ("TravelBetweenImagesTaskParams", {"image_urls": ["file:///a"], "base_prompts": ["a"]}, "image_urls[0]"),
        ("TravelBetweenImagesTaskParams", {"image_urls": [URL] * 4, "base_prompts": ["a"] * 2}, "base_prompts"),
        ("BatchImageGenerationTaskParams", {"prompts": ["a"], "imagesPerPrompt": 17}, "imagesPerPrompt"),
        ("ImageUpscaleTaskParams", {"image_url": URL, "scale_facto": 2}, "scale_facto"),
        ("MagicEditTaskParams", {"image_url": URL, "prompt": "a", "numImages": 0}, "numImages"),
    ):  # fmt: skip
        with pytest.raises(TaskValidationError) as refused:
            getattr(tasks_lib, name)(project_id=owner.project_id, **wrong)
        assert refused.value.field == field
    with pytest.raises(TaskValidationError, match="project_id"):
        tasks_lib.BaseTaskParams(task_type="single_image", params={})  # type: ignore[call-arg]
    with pytest.raises(TaskValidationError) as missing:
        tasks_lib.create_task("single_image", {"prompt": "a"})
    assert missing.value.field == "project_id"


def test_options_count_when_they_are_in_the_object_and_keywords_before_them(owner: Owner) -> None:
    first = tasks_lib.create_task("single_image", {"prompt": "a"}, project_id=owner.project_id)
    asked = tasks_lib.ImageUpscaleTaskParams(
        project_id=owner.project_id, image_url=URL, idempotency_key="monday", depends_on=[first.task_id], priority=3
    )
    made = tasks_lib.create_image_upscale_task(asked)
    assert tasks_lib.create_image_upscale_task(asked).task_id == made.task_id
    other = tasks_lib.create_image_upscale_task(asked, idempotency_key="tuesday", priority=5)
    assert [tasks_lib.get_task(task.task_id).priority for task in (made, other)] == [3, 5]
    with database.transaction() as connection:
        edges = connection.scalars(sa.select(tables.task_dependencies.c.depends_on)).all()
    assert edges == [first.task_id] * 2


def test_message_says_authentication_when_the_token_is_wrong_as_the_specification_tests_for(owner: Owner) -> None:
    params = tasks_lib.BatchImageGenerationTaskParams(project_id=owner.project_id, prompts=["a"])
    with pytest.raises(TaskError, match="Authentication"):
        tasks_lib.create_batch_image_generation_tasks(params, token="nonsense")


def test_keywords_are_those_of_the_models_when_a_parameter_was_added() -> None:
    said = "a parameter has changed: run `python -m tasks_lib.keywords_writer` and `ruff format`"
    assert _words(Path(keywords_writer.FILE).read_text()) == _words(keywords_writer.text()), said


def _words(text: str) -> str:
    """Without what a formatter may change."""
    return "".join(text.split()).replace(",]", "]").replace(",)", ")").replace("(", "").replace(")", "")


def type_checker_sees_each_parameter() -> None:
    """Not called: mypy reads it, and complains of an ignored error that it does not find."""
    tasks_lib.create_travel_between_images_task(
        project_id=uuid4(), image_urls=[URL], base_prompts=["a"], segment_frames=[9]
    )
    tasks_lib.create_travel_between_images_task(image_ulrs=[URL])  # type: ignore[call-arg]
    tasks_lib.create_travel_between_images_task(image_urls=[5])  # type: ignore[list-item]
    tasks_lib.create_image_upscale_task(scale_factor="2")  # type: ignore[arg-type]
    tasks_lib.create_join_clips_task(clips=[{"url": URL}, URL], loop=True)
    tasks_lib.JoinClipsTaskParams(clips=[{"ulr": URL}])  # type: ignore[list-item]
    tasks_lib.TravelBetweenImagesTaskParams(project_id="p", motion_mode="wild")  # type: ignore[arg-type]
    tasks_lib.create_magic_edit_task(numImages=2, num_images=2, token="t")
