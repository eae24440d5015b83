"""The creation helpers: which type they make, batches and their seeds, and lineage that must be one's own."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import (
    create_batch_image_generation_tasks,
    create_image_generation_task,
    create_image_inpaint_task,
    create_individual_travel_segment_task,
    create_magic_edit_task,
    create_task,
    create_travel_between_images_task,
    database,
    get_task,
    list_tasks,
    queue,
)
from tasks_lib.errors import NotFoundError, TaskError, TaskValidationError
from tasks_lib.queue import Output
from tests.conftest import Owner, make_owner

URL = "https://example.com/1.jpg"


def insert(table: sa.Table, **values: Any) -> UUID:
    with database.transaction() as connection:
        id_: UUID = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
    return id_


def rows(table: sa.Table) -> list[Any]:
    with database.transaction() as connection:
        return list(connection.execute(sa.select(table)).all())


def test_batch_has_each_prompt_so_often_when_images_per_prompt_is_given(owner: Owner) -> None:
    created = create_batch_image_generation_tasks(
        {
            "project_id": owner.project_id,
            "prompts": [
                {"id": "1", "fullPrompt": "A sunset over the ocean", "shortPrompt": "Ocean sunset"},
                {"id": "2", "fullPrompt": "Mountain landscape in winter"},
                "City skyline at night",
            ],
            "imagesPerPrompt": 2,
            "loras": [{"path": "/models/lora1", "strength": 0.8}],
            "model_name": "z-image",
        }
    )
    tasks = [get_task(task.task_id) for task in created]
    assert [task.params["prompt"][:4] for task in tasks] == ["A su", "A su", "Moun", "Moun", "City", "City"]
    assert {task.task_type for task in tasks} == {"z_image_turbo"}
    assert len({task.params["seed"] for task in tasks}) == 6
    assert len({row.batch_id for row in rows(tables.tasks)}) == 1


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ({"seed": 7}, [7, 8, 9]),
        ({"seed": 7, "seed_mode": "increment"}, [7, 8, 9]),
        ({"seed": 7, "seed_mode": "fixed"}, [7, 7, 7]),
    ],
)
def test_seeds_follow_the_mode_when_a_batch_is_made(owner: Owner, given: dict[str, Any], seeds: list[int]) -> None:
    created = create_batch_image_generation_tasks(
        project_id=owner.project_id, prompts=["a"], images_per_prompt=3, **given
    )
    assert [get_task(task.task_id).params["seed"] for task in created] == seeds


def test_every_refused_row_is_named_and_nothing_stored_when_some_rows_are_wrong(owner: Owner) -> None:
    with pytest.raises(TaskValidationError) as refused:
        create_batch_image_generation_tasks(
            project_id=owner.project_id, prompts=["a", "b"], images_per_prompt=2, seed=2_147_483_646
        )
    assert [(refusal.index, refusal.field) for refusal in refused.value.refusals] == [(2, "seed"), (3, "seed")]
    assert list_tasks() == []


def test_batch_makes_nothing_new_when_its_key_is_repeated(owner: Owner) -> None:
    def create() -> list[tuple[UUID, bool]]:
        created = create_batch_image_generation_tasks(
            project_id=owner.project_id, prompts=["a", "b"], idempotency_key="monday"
        )
        return [(task.task_id, task.created) for task in created]

    first, second = create(), create()
    assert [(id_, False) for id_, _ in first] == second


@pytest.mark.parametrize(
    ("model_name", "reference", "task_type", "stored_model"),
    [
        (None, False, "single_image", None),
        ("my-model", False, "single_image", "my-model"),
        ("optimised-t2i", False, "wan_2_2_t2i", None),
        ("qwen-image", False, "qwen_image", None),
        ("qwen-image", True, "qwen_image_style", None),
        ("qwen-image-2512", True, "qwen_image_2512", None),
    ],
)
def test_type_follows_the_model_when_a_picture_is_asked_for(
    owner: Owner, model_name: str | None, reference: bool, task_type: str, stored_model: str | None
) -> None:
    fields: dict[str, Any] = {"model_name": model_name} if model_name else {}
    if reference:
        fields["style_reference_image"] = URL
    created = create_image_generation_task({"project_id": owner.project_id, "prompt": "a harbour", **fields})
    assert created.task_type == task_type
    assert get_task(created.task_id).params.get("model_name") == stored_model


def test_reference_is_refused_and_never_dropped_when_the_type_takes_none(owner: Owner) -> None:
    with pytest.raises(TaskValidationError, match="`qwen_image_style` tasks"):
        create_task("qwen_image", {"prompt": "a", "style_reference_image": URL}, project_id=owner.project_id)


@pytest.mark.parametrize("as_generation", [True, False])
def test_edit_becomes_a_generation_or_a_variant_as_create_as_generation_says(owner: Owner, as_generation: bool) -> None:
    source = insert(tables.generations, project_id=owner.project_id, type="image")
    created = create_image_inpaint_task(
        project_id=owner.project_id,
        image_url=URL,
        mask_url=URL,
        prompt="a boat",
        num_generations=2,
        generation_id=source,
        create_as_generation=as_generation,
    )
    assert len(created.batch) == 2
    for task in queue.claim("api", "worker", limit=2):
        queue.complete(task.lease, Output(f"{task.id}.png", {"media": {}}))
    generations = rows(tables.generations)
    if as_generation:
        assert sorted(row.based_on == source for row in generations) == [False, True, True]
    else:
        assert [row.id for row in generations] == [source]
        assert {row.variant_type for row in rows(tables.generation_variants)} == {"inpaint"}
    assert sum(row.is_primary for row in rows(tables.generation_variants)) == (2 if as_generation else 1)


def test_segment_becomes_a_variant_when_its_child_generation_is_there(owner: Owner) -> None:
    film = insert(tables.generations, project_id=owner.project_id, type="video")
    child = insert(
        tables.generations, project_id=owner.project_id, type="video", parent_generation_id=film, child_order=0
    )
    insert(tables.generation_variants, generation_id=child, variant_type="original", is_primary=True, location="old")
    request = {"project_id": owner.project_id, "segment_index": 0, "start_image_url": URL, "num_frames": 9}
    lineage = {"parent_generation_id": film, "child_generation_id": child}
    create_individual_travel_segment_task({**request, **lineage}, make_primary_variant=False)
    create_individual_travel_segment_task(request, parent_generation_id=film)
    for task in queue.claim("gpu", "worker", limit=2):
        queue.complete(task.lease, Output(f"{task.id}.mp4", {"media": {}}))
    # The film has no other part, so it shows this one.
    assert {row.generation_id for row in rows(tables.generation_variants)} == {child, film}
    variants = [row for row in rows(tables.generation_variants) if row.generation_id == child]
    assert sorted((row.variant_type, row.is_primary) for row in variants) == [
        ("individual_segment", False),
        ("individual_segment", True),
        ("original", False),
    ]

    other = insert(tables.generations, project_id=owner.project_id, type="video")
    with pytest.raises(TaskValidationError, match="is not a child of") as refused:
        create_individual_travel_segment_task(request, parent_generation_id=other, child_generation_id=child)
    assert refused.value.field == "child_generation_id"


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("shot_id", "shot"),
        ("based_on", "generation"),
        ("source_variant_id", "variant"),
    ],
)
def test_lineage_is_answered_as_missing_when_it_is_another_projects(owner: Owner, field: str, kind: str) -> None:
    stranger = make_owner("stranger")
    shot = insert(tables.shots, project_id=stranger.project_id, name="theirs")
    generation = insert(tables.generations, project_id=stranger.project_id, type="image")
    variant = insert(
        tables.generation_variants, generation_id=generation, variant_type="original", is_primary=True, location="x"
    )
    theirs = {"shot": shot, "generation": generation, "variant": variant}[kind]
    texts = []
    for id_ in (theirs, uuid4()):
        with pytest.raises(NotFoundError) as refused:
            create_magic_edit_task({field: id_}, project_id=owner.project_id, prompt="a", image_url=URL)
        assert refused.value.refusals[0].field == field
        texts.append(str(refused.value).replace(str(id_), "ID"))
    assert texts == [f"there is no {kind} ID"] * 2


def test_place_in_a_list_is_named_when_an_id_in_it_is_unknown(owner: Owner) -> None:
    with pytest.raises(NotFoundError) as refused:
        create_travel_between_images_task(
            project_id=owner.project_id,
            image_urls=[URL] * 3,
            base_prompts=[""],
            image_generation_ids=[
                insert(tables.generations, project_id=owner.project_id, type="image"),
                uuid4(),
                uuid4(),
            ],
        )
    assert [refusal.field for refusal in refused.value.refusals] == [
        "image_generation_ids[1]",
        "image_generation_ids[2]",
    ]


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("openai_api_key", "sk-1", "never part of a task"),
        ("stitch_config", {}, "join_clips_orchestrator"),
        ("structure_videos", [], "structure_guidance"),
        ("use_svi", True, "False"),
        ("turbo_mode", "yes", "False"),
    ],
)
def test_travel_says_what_to_do_instead_when_a_field_is_withdrawn(
    owner: Owner, field: str, value: Any, instead: str
) -> None:
    with pytest.raises(TaskValidationError, match=instead) as refused:
        create_travel_between_images_task(
            {"project_id": owner.project_id, "image_urls": [URL], "base_prompts": [""], field: value}
        )
    assert refused.value.field == field


@pytest.mark.parametrize("count", [0, 17, True, "2", 1.5])
def test_number_of_copies_is_refused_when_it_is_no_small_whole_number(owner: Owner, count: Any) -> None:
    with pytest.raises(TaskError, match="from 1 to 16"):
        create_magic_edit_task(project_id=owner.project_id, prompt="a", image_url=URL, num_images=count)


def test_missing_uploads_are_named_by_row_when_a_batch_has_several(owner: Owner) -> None:
    gone, theirs = f"unitask://{owner.project_id}/uploads/gone.png", f"unitask://{uuid4()}/uploads/x.png"
    with pytest.raises(NotFoundError) as refused:
        create_batch_image_generation_tasks(
            project_id=owner.project_id,
            prompts=["a", "b"],
            model_name="z-image",
            style_reference_image=gone,
            subject_reference_image=theirs,
        )
    fields = ["style_reference_image", "subject_reference_image"]
    assert sorted((r.index, r.field) for r in refused.value.refusals) == [(i, f) for i in (0, 1) for f in fields]
    assert list_tasks() == []
