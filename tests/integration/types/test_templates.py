"""Templates: parameter sets by name, used with what differs."""

from __future__ import annotations

import pytest

from tasks_lib import get_task
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.templates import (
    create_task_from_template,
    create_template,
    delete_template,
    get_template,
    list_templates,
)
from tests.conftest import Owner, make_owner

STYLE = {"negative_prompt": "text", "steps": 20, "loras": [{"path": "style", "strength": 0.7}]}


def test_task_has_the_templates_parameters_and_its_own_when_made_from_it(owner: Owner) -> None:
    create_template("house style", "z_image_turbo", STYLE, project_id=owner.project_id)
    created = create_task_from_template(
        "house style", {"prompt": "a harbour", "steps": 8}, project_id=owner.project_id, idempotency_key="one"
    )
    params = get_task(created.task_id).params
    assert (created.task_type, params["negative_prompt"], params["steps"]) == ("z_image_turbo", "text", 8)
    with pytest.raises(TaskValidationError) as refused:
        create_task_from_template("house style", project_id=owner.project_id)
    assert refused.value.field == "prompt"


def test_template_is_replaced_listed_and_deleted_when_its_name_is_used_again(owner: Owner) -> None:
    create_template("b", "z_image_turbo", STYLE, project_id=owner.project_id)
    create_template("a", "single_image", {}, project_id=owner.project_id)
    create_template("b", "single_image", {"steps": 4}, project_id=owner.project_id)
    listed = list_templates(project_id=owner.project_id)
    assert [(template.name, template.task_type) for template in listed] == [
        ("a", "single_image"),
        ("b", "single_image"),
    ]
    assert get_template("b", project_id=owner.project_id).params == {"steps": 4}
    delete_template("b", project_id=owner.project_id)
    with pytest.raises(NotFoundError, match="no template `b`"):
        delete_template("b", project_id=owner.project_id)


@pytest.mark.parametrize(
    ("task_type", "params", "field"),
    [
        ("z_image_turbo", {"steps": 0}, "steps"),
        ("z_image_turbo", {"step": 1}, "step"),
        ("z_image_turbo", {"loras": [{"strength": 1}]}, "loras[0].path"),
        ("z_image", {}, "task_type"),
        ("travel_segment", {}, "task_type"),
    ],
)
def test_template_is_refused_when_no_request_could_have_its_parameters(
    owner: Owner, task_type: str, params: dict[str, object], field: str
) -> None:
    with pytest.raises(TaskValidationError) as refused:
        create_template("bad", task_type, params, project_id=owner.project_id)
    assert refused.value.field == field


def test_template_is_answered_as_missing_when_the_project_is_anothers(owner: Owner) -> None:
    create_template("mine", "z_image_turbo", STYLE, project_id=owner.project_id)
    stranger = make_owner("stranger")
    with pytest.raises(NotFoundError, match="no project"):
        get_template("mine", project_id=owner.project_id, token=stranger.token)
    with pytest.raises(NotFoundError, match="no template"):
        get_template("mine", project_id=stranger.project_id, token=stranger.token)
