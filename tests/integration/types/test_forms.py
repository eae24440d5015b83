"""Every task type that people may create has a form of its own, derived from its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from flows.forms import form_of
from flows.names import is_made_up, named_after
from flows.tasks import params_of, request_of
from tasks_lib.errors import TaskValidationError
from tasks_lib.types.registry import task_types

PUBLIC = {name: declared for name, declared in task_types().items() if declared.public}
PROJECT = "0d6e23f5-cab0-4e42-87a2-16246e43b4bf"


def test_every_public_type_has_a_deployment_when_it_is_declared() -> None:
    manifest = yaml.safe_load((Path(__file__).parents[3] / "prefect.yaml").read_text())
    forms = {entry["entrypoint"]: entry for entry in manifest["deployments"]}
    for name, declared in PUBLIC.items():
        module = name if declared.plan else "tasks"
        entry = forms[f"flows/{module}.py:{name}"]
        assert entry["name"] == name.replace("_", "-")
        assert declared.plan or entry["description"] == declared.description
        assert entry["work_pool"]["work_queue_name"] == "requests"
    assert len([entrypoint for entrypoint in forms if "tasks.py" in entrypoint]) == len(PUBLIC) - 2


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object within a schema."""
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from parts(item)


@pytest.mark.parametrize("name", PUBLIC)
def test_form_shows_the_usual_first_and_nothing_withdrawn_when_it_is_made(name: str) -> None:
    declared = PUBLIC[name]
    form = form_of(declared)
    shown = list(form["properties"])
    assert shown[0] == "project_id"
    assert shown[-1] == "advanced"
    required = {field for field, info in declared.params.model_fields.items() if info.is_required()}
    assert set(form["required"]) == {"project_id", *required}
    assert len(shown) < 16
    for part in parts(form):
        assert "const" not in part
        assert {"type": "null"} not in part.get("anyOf", [])
        assert part.get("$ref", "#/definitions/").startswith("#/definitions/")
    advanced = form["properties"]["advanced"]["properties"]
    assert not [field for field, schema in advanced.items() if "default" in schema], "a form sends what it shows"
    assert not set(advanced) & set(shown)
    assert set(advanced) | set(shown) >= required
    for field in (*form["properties"].values(), *advanced.values()):
        assert field["title"]
        assert field["description"]


def test_fields_of_a_form_are_the_request_when_programs_send_the_same_as_one() -> None:
    travel = PUBLIC["travel_orchestrator"]
    params = {"image_urls": ["https://a.org/1.png", "https://a.org/2.png"], "base_prompts": ["x"], "steps": 9}
    flat = {"project_id": PROJECT, **params, "seed": 789, "resolution": None, "idempotency_key": ""}
    flat["advanced"] = {"steps": flat.pop("steps")}
    assert params_of(flat)["steps"] == 9
    by_form = request_of(travel, flat)
    assert by_form == request_of(travel, {"request": {"project_id": PROJECT, **params}})
    assert by_form["params"] == params, "defaults that the form has filled in were not asked for"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"project_id": PROJECT, "image_url": "https://a.org/1.png", "scale_facter": 3}, "scale_facter"),
        ({"project_id": PROJECT, "image_url": "https://a.org/1.png", "advanced": {"output": 3}}, "output"),
        ({"project_id": PROJECT, "image_url": "https://a.org/1.png", "advanced": "jpeg"}, "advanced"),
        ({"project_id": PROJECT, "image_url": "https://a.org/1.png", "advanced": {"image_url": ""}}, "image_url"),
        ({"image_url": "https://a.org/1.png"}, "project_id"),
        ({"project_id": PROJECT}, "image_url"),
    ],
)
def test_form_is_refused_by_the_fields_name_when_it_is_filled_in_wrong(given: dict[str, Any], field: str) -> None:
    with pytest.raises(TaskValidationError) as caught:
        request_of(PUBLIC["image_upscale"], given)
    assert caught.value.field == field
    assert f"`{field}`" in str(caught.value)


def test_run_is_named_after_its_task_when_nobody_typed_a_name() -> None:
    travel = PUBLIC["travel_orchestrator"]
    name = named_after(travel, {"image_urls": ["https://a.org/?token=abcdefgh"] * 3, "base_prompts": ["a  walk\nhome"]})
    assert name == "Travel Between Images: 3 images, a walk home"
    assert all(map(is_made_up, ("terrific-sturgeon", "phi5-ashikaga", "tau123-canis-majoris-band", "Sleek-Beagle")))
    assert not any(map(is_made_up, ("my travel", "holiday-2026", "alpha-test", "Sleek", "a-b", "for-anna")))
