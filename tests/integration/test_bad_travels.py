"""Bad input at every parameter of a travel: the field is named, and nothing is stored."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import create_travel_between_images_task, database
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.types.travel_orchestrator import TravelParams
from tests.conftest import Owner

GOOD: dict[str, Any] = {
    "image_urls": [f"https://example.com/{i}.jpg" for i in range(4)],
    "base_prompts": ["a walk"],
    "segment_frames": 9,
}
LONG = "x" * 10_001


def test_field_is_named_when_a_value_has_the_wrong_type(owner: Owner, subtests: pytest.Subtests) -> None:
    for name in TravelParams.model_fields:
        for value in (math.nan, {"no": "such"}, b"bytes", -7.5):
            with subtests.test(name=name, value=value):
                refused(owner, {name: value}, name)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"image_urls": []}, "image_urls"),
    ({"image_urls": ["javascript:alert(1)"]}, "image_urls[0]"),
    ({"image_urls": ["https://example.com/a.jpg", "file:///etc/passwd"]}, "image_urls[1]"),
    ({"image_urls": ["ftp://example.com/a.jpg"]}, "image_urls[0]"),
    ({"image_urls": ["/etc/passwd"]}, "image_urls[0]"),
    ({"image_urls": ["https://user:word@example.com/a.jpg"]}, "image_urls[0]"),
    ({"image_urls": ["https://example.com/" + "a" * 3000]}, "image_urls[0]"),
    ({"image_urls": ["https://example.com/a.jpg"] * 1000}, "image_urls"),
    ({"base_prompts": []}, "base_prompts"),
    ({"base_prompts": ["one", "two"]}, "base_prompts"),
    ({"base_prompts": [LONG]}, "base_prompts[0]"),
    ({"base_prompts": ["null \0 inside"]}, "base_prompts[0]"),
    ({"negative_prompts": ["a"] * 7}, "negative_prompts"),
    ({"segment_frames": [9, 9]}, "segment_frames"),
    ({"segment_frames": [9, 9, 4]}, "segment_frames[2]"),
    ({"segment_frames": 82}, "segment_frames[0]"),
    ({"segment_frames": "9"}, "segment_frames"),
    ({"frame_overlap": [4, 4, 4]}, "frame_overlap"),
    ({"frame_overlap": 12}, "frame_overlap[0]"),
    ({"resolution": "banana"}, "resolution"),
    ({"resolution": "641x360"}, "resolution"),
    ({"resolution": "99999x99999"}, "resolution"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**31}, "seed"),
    ({"seed": True}, "seed"),
    ({"amount_of_motion": 1.5}, "amount_of_motion"),
    ({"amount_of_motion": math.inf}, "amount_of_motion"),
    ({"loras": [{"path": "a", "strength": 0.5}, {"path": "b", "strength": 9}]}, "loras[1].strength"),
    ({"loras": [{"path": ""}]}, "loras[0].path"),
    ({"shot_id": "not an id"}, "shot_id"),
    ({"imge_urls": []}, "imge_urls"),
    ({"__prefect_kind": "json"}, "__prefect_kind"),
]


def test_field_is_named_when_a_value_does_not_fit(owner: Owner, subtests: pytest.Subtests) -> None:
    for values, field in BAD:
        with subtests.test(values=str(values)[:100]):
            refused(owner, values, field)


def test_field_is_named_when_it_is_missing(owner: Owner, subtests: pytest.Subtests) -> None:
    for missing in ("image_urls", "base_prompts", "project_id"):
        values = {**GOOD, "project_id": owner.project_id}
        values.pop(missing)
        with subtests.test(missing=missing), pytest.raises(TaskValidationError, match=f"`{missing}` is required"):
            create_travel_between_images_task(values)
    assert stored() == 0


def test_project_is_named_when_it_is_no_id(owner: Owner, subtests: pytest.Subtests) -> None:
    for project_id in ("not a uuid", 7, None, "' OR 1=1 --"):
        with subtests.test(project_id=project_id), pytest.raises(TaskValidationError) as caught:
            create_travel_between_images_task({**GOOD, "project_id": project_id})
        assert caught.value.field == "project_id"


def test_upload_is_missing_when_it_lies_in_another_project(owner: Owner) -> None:
    for reference in (f"unitask://{uuid4()}/uploads/a.png", f"unitask://{owner.project_id}/../x.png", "unitask://x"):
        with pytest.raises((NotFoundError, TaskValidationError)):
            create_travel_between_images_task({**GOOD, "image_urls": [reference]}, project_id=owner.project_id)
    assert stored() == 0


def refused(owner: Owner, values: dict[str, Any], field: str) -> None:
    """The request is refused with that field, or a place inside it, and nothing is stored."""
    with pytest.raises(TaskValidationError) as caught:
        create_travel_between_images_task({**GOOD, **values}, project_id=owner.project_id)
    named = caught.value.field or ""
    assert named == field or named.startswith((f"{field}.", f"{field}[")), f"{named}: {caught.value}"
    assert stored() == 0


def stored() -> int:
    """Rows that a create could have left."""
    with database.transaction() as connection:
        return sum(
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (tables.tasks, tables.generations, tables.credit_ledger, tables.task_events)
        )
