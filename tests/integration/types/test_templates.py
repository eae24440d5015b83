"""Templates: parameter sets by name, used with what differs."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from tasks_lib import get_task
from tasks_lib.cli import app
from tasks_lib.errors import NotFoundError, TaskValidationError
from tasks_lib.templates import (
    create_task_from_template,
    create_template,
    delete_template,
    get_template,
    list_templates,
)
from tests.conftest import Owner, make_owner

URL = "https://example.com/a.png"
STYLE = {"negative_prompt": "text", "steps": 20, "loras": [{"path": "style", "strength": 0.7}]}


def test_task_has_the_templates_parameters_and_its_own_when_made_from_it(owner: Owner) -> None:
    create_template("house style", "z_image_turbo", STYLE, project_id=owner.project_id, open_fields=["prompt"])
    created = create_task_from_template(
        "house style", {"prompt": "a harbour", "steps": 8}, project_id=owner.project_id, idempotency_key="one"
    )
    params = get_task(created.task_id).params
    assert (created.task_type, params["negative_prompt"], params["steps"]) == ("z_image_turbo", "text", 8)
    with pytest.raises(TaskValidationError) as refused:
        create_task_from_template("house style", project_id=owner.project_id)
    assert refused.value.field == "prompt"


def test_template_is_replaced_listed_and_deleted_when_its_name_is_used_again(owner: Owner) -> None:
    create_template("b", "z_image_turbo", STYLE, project_id=owner.project_id, open_fields=["prompt"])
    create_template("a", "single_image", {"prompt": "a harbour"}, project_id=owner.project_id)
    create_template("b", "single_image", {"steps": 4}, project_id=owner.project_id, open_fields=["prompt"])
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
        ("z_image_turbo", {"steps": 4}, "prompt"),
        ("travel_orchestrator", {"base_prompts": ["a walk"]}, "image_urls"),
        (
            "travel_orchestrator",
            {"image_urls": [URL] * 3, "base_prompts": ["a"], "segment_frames": [9] * 3},
            "segment_frames",
        ),
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


@pytest.mark.parametrize(
    ("params", "left", "field"),
    [
        ({"base_prompts": ["a", "b", "c"]}, ["image_urls"], None),
        ({"segment_frames": 9}, ["image_urls", "base_prompts"], None),
        ({"base_prompts": ["a"] * 2, "segment_frames": [9, 9, 9]}, ["image_urls"], "base_prompts"),
        ({"base_prompts": ["a"]}, ["image_url"], "image_url"),
        ({"base_prompts": ["a"], "image_urls": [URL]}, ["image_urls"], "image_urls"),
    ],
)
def test_template_with_open_fields_is_stored_when_some_use_of_it_can_be_valid(
    owner: Owner, params: dict[str, object], left: list[str], field: str | None
) -> None:
    if field is None:
        stored = create_template("open", "travel_orchestrator", params, open_fields=left, project_id=owner.project_id)
        assert stored.open_fields == left
        return
    with pytest.raises(TaskValidationError) as refused:
        create_template("open", "travel_orchestrator", params, open_fields=left, project_id=owner.project_id)
    assert refused.value.field == field
    assert list_templates(project_id=owner.project_id) == []


def test_command_says_what_is_left_open_when_a_template_is_saved(owner: Owner) -> None:
    def said(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["templates", *arguments])

    refused = said("save", "style", "z_image_turbo", "--set", "steps=4")
    assert "--open prompt" in str(refused.exception)
    saved = said("save", "style", "z_image_turbo", "--set", "steps=4", "--open", "prompt")
    assert "style makes z_image_turbo; every use gives prompt" in saved.stdout
    assert json.loads(said("list", "-o", "json").stdout)[0]["open_fields"] == ["prompt"]


def test_template_is_answered_as_missing_when_the_project_is_anothers(owner: Owner) -> None:
    create_template("mine", "z_image_turbo", STYLE, project_id=owner.project_id, open_fields=["prompt"])
    stranger = make_owner("stranger")
    with pytest.raises(NotFoundError, match="no project"):
        get_template("mine", project_id=owner.project_id, token=stranger.token)
    with pytest.raises(NotFoundError, match="no template"):
        get_template("mine", project_id=stranger.project_id, token=stranger.token)
