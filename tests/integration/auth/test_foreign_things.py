"""Whatever a request can name (generations, shots, tasks, uploads) must be its own project's, for every task type.

The fields are read off each type's schema, so a new one that nobody checks is found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import create_task, create_tasks, database, list_tasks, upload_media
from tasks_lib.errors import NotFoundError, TaskError, TaskValidationError
from tasks_lib.types.registry import task_types
from tests.conftest import Owner, make_owner

URL = "https://example.com/0.jpg"
LEAST: dict[str, Any] = {
    "prompt": "a walk",
    "image_url": URL,
    "mask_url": URL,
    "image_urls": [URL],
    "base_prompts": ["a walk"],
    "clips": [{"url": URL}, {"url": URL}],
    "segment_index": 0,
    "start_image_url": URL,
    "style_reference_image": URL,
    "character_image_url": URL,
    "motion_video_url": URL,
}
PUBLIC = sorted(name for name, declared in task_types().items() if declared.public)
# A segment is a part of something.
WITH = {"individual_travel_segment": "parent_generation_id"}


def least(task_type: str) -> dict[str, Any]:
    """The least parameters that a type takes."""
    fields = task_types()[task_type].params.model_fields
    return {name: LEAST[name] for name, info in fields.items() if info.is_required()}


def ids(task_type: str) -> Iterator[tuple[str, bool]]:
    """The fields of a type that hold ids, and whether each is a list."""
    for name, schema in task_types()[task_type].params.model_json_schema()["properties"].items():
        for form in (schema, *schema.get("anyOf", ())):
            if form.get("format") == "uuid":
                yield name, False
            elif form.get("items", {}).get("format") == "uuid":
                yield name, True


def texts(task_type: str) -> Iterator[str]:
    """The fields of a type that hold free text, media among them."""
    for name, schema in task_types()[task_type].params.model_json_schema()["properties"].items():
        for form in (schema, *schema.get("anyOf", ())):
            if form.get("type") == "string" and not {"format", "enum", "const"} & set(form):
                yield name


def things(owner: Owner) -> dict[str, UUID]:
    """One of each kind of thing, in the owner's project."""

    def insert(table: sa.Table, **values: Any) -> UUID:
        with database.transaction() as connection:
            id_: UUID = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
        return id_

    shot = insert(tables.shots, project_id=owner.project_id, name="a shot")
    generation = insert(tables.generations, project_id=owner.project_id, type="video")
    return {
        "shot": shot,
        "generation": generation,
        "variant": insert(
            tables.generation_variants,
            generation_id=generation,
            variant_type="original",
            is_primary=True,
            location="a.mp4",
        ),
        "shot generation": insert(tables.shot_generations, shot_id=shot, generation_id=generation),
    }


def refusal(owner: Owner, task_type: str, params: dict[str, Any], **options: Any) -> TaskError | None:
    """The error that a create ends in, if it does."""
    try:
        create_task(task_type, params, project_id=owner.project_id, token=owner.token, **options)
    except TaskError as error:
        return error
    return None


@pytest.mark.parametrize("task_type", PUBLIC)
def test_thing_of_another_is_answered_as_a_missing_one_when_a_field_names_it(owner: Owner, task_type: str) -> None:
    mine, theirs = things(owner), things(make_owner("another"))
    for name, is_list in ids(task_type):

        def named(id_: UUID, name: str = name, is_list: bool = is_list) -> TaskError | None:
            given = {WITH[task_type]: str(mine["generation"])} if task_type in WITH else {}
            return refusal(owner, task_type, least(task_type) | given | {name: [str(id_)] if is_list else str(id_)})

        missing = uuid4()
        expected = str(named(missing)).replace(str(missing), "ID")
        assert "there is no" in expected, name
        for kind, id_ in theirs.items():
            error = named(id_)
            assert isinstance(error, NotFoundError), (name, kind)
            assert str(error).replace(str(id_), "ID") == expected, (name, kind)
        if name != "child_generation_id":  # which must be a child of the parent
            assert [kind for kind, id_ in mine.items() if named(id_) is None], f"`{name}` takes nothing of one's own"


@pytest.mark.parametrize("task_type", PUBLIC)
def test_upload_of_another_is_not_there_when_any_text_names_it(owner: Owner, tmp_path: Path, task_type: str) -> None:
    other = make_owner("another")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    theirs = upload_media(tmp_path / "a.png", project_id=other.project_id, token=other.token)
    key = theirs.removeprefix("unitask://")
    ways = [theirs, f"unitask://{owner.project_id}/../{key}", f"unitask://{owner.project_id}/uploads/../../{key}"]
    for name in {*texts(task_type), "image_urls", "clips"} & set(task_types()[task_type].params.model_fields):
        for way in ways:
            value: Any = {"image_urls": [way], "clips": [{"url": way}, {"url": URL}]}.get(name, way)
            error = refusal(owner, task_type, least(task_type) | {name: value})
            assert isinstance(error, NotFoundError | TaskValidationError), (name, way)
    assert list_tasks(token=owner.token) == []


@pytest.mark.parametrize(
    "reference",
    ["unitask://", "unitask:///etc/passwd", "unitask://../x.png", "unitask://%2e%2e/x.png", "unitask://./a\0.png"],
)
def test_reference_is_refused_when_it_leaves_every_project(owner: Owner, reference: str) -> None:
    error = refusal(owner, "image_upscale", {"image_url": reference})
    assert isinstance(error, NotFoundError | TaskValidationError)


def test_batch_is_refused_whole_when_one_row_names_what_is_anothers(owner: Owner) -> None:
    other = make_owner("another")
    theirs = create_task("single_image", {"prompt": "a walk"}, project_id=other.project_id, token=other.token).task_id
    shot = things(other)["shot"]
    row = {"task_type": "single_image", "params": {"prompt": "a walk"}, "project_id": owner.project_id}
    wrong = [
        {**row, "depends_on": [theirs]},
        {**row, "project_id": other.project_id},
        {**row, "params": {"prompt": "a walk", "shot_id": str(shot)}},
    ]
    for bad in wrong:
        with pytest.raises(NotFoundError):
            create_tasks([row, bad, row], token=owner.token)
    assert list_tasks(token=owner.token) == []
