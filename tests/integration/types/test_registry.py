"""Adding a task type is one new file: a type in a temporary module is found everywhere without another edit.

`docs/adding-a-task-type.md` is this test in words, and its module is what is added here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.utilities.callables import parameter_schema
from typer.testing import CliRunner

import tasks_lib.types
from db import tables
from flows.create_task import create_task_flow
from tasks_lib import create_task, database, get_task
from tasks_lib.cli import app
from tasks_lib.errors import TaskValidationError
from tasks_lib.types import registry, table
from tests.conftest import Owner

DOC = Path(__file__).parents[3] / "docs" / "adding-a-task-type.md"
MODULE = DOC.read_text().partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def new_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The type `rotate_image`, in a module of its own that nothing else mentions."""
    folder = tmp_path / "more_types"
    folder.mkdir()
    (folder / "rotate_image.py").write_text(MODULE)
    monkeypatch.setattr(tasks_lib.types, "__path__", [*tasks_lib.types.__path__, str(folder)])
    registry.task_types.cache_clear()
    yield "rotate_image"
    registry.task_types.cache_clear()


def test_type_is_found_everywhere_when_its_file_is_added(new_type: str, owner: Owner) -> None:
    assert registry.get_task_type(new_type).display_name == "Rotate"
    with pytest.raises(TaskValidationError, match=r"`rotate_image` has no row in `task_types`: `unitask deploy`"):
        create_task(new_type, {"image_url": "https://example.com/1.jpg"}, project_id=owner.project_id)
    table.sync(database.get_engine())
    with database.transaction() as connection:
        row = connection.execute(sa.select(tables.task_types).where(tables.task_types.c.name == new_type)).one()
    assert (row.run_type, row.category, float(row.base_cost_per_second)) == ("gpu", "processing", 0.001)

    schema = json.loads(CliRunner().invoke(app, ["types", "show", new_type, "-o", "json"]).stdout)
    degrees = schema["properties"]["degrees"]
    expected = {"default": 90, "description": "How far, clockwise.", "maximum": 359, "minimum": 0, "type": "integer"}
    assert expected.items() <= degrees.items()
    listed = CliRunner().invoke(app, ["types", "list", "-o", "json"]).stdout
    assert new_type in {declared["name"] for declared in json.loads(listed)}
    form = parameter_schema(create_task_flow.fn).definitions["TaskRequest"]["properties"]
    assert new_type in form["task_type"]["enum"]
    shown = CliRunner().invoke(app, ["types", "show", new_type], env={"COLUMNS": "120"}).stdout
    assert "degrees    integer, 0 to 359  90        How far, clockwise." in shown

    created = create_task(new_type, {"image_url": "https://example.com/1.jpg"}, project_id=owner.project_id)
    assert get_task(created.task_id).params == {
        "image_url": "https://example.com/1.jpg",
        "degrees": 90,
        "shot_id": None,
    }
    with pytest.raises(TaskValidationError, match="did you mean `degrees`"):
        create_task(new_type, {"image_url": "https://example.com/1.jpg", "degree": 1}, project_id=owner.project_id)


@pytest.mark.parametrize(
    ("given", "meant"), [("z_image", "z_image_turbo"), ("travel_orchestrater", "travel_orchestrator"), ("x", None)]
)
def test_type_that_was_meant_is_named_when_there_is_no_such_type(given: str, meant: str | None) -> None:
    with pytest.raises(TaskValidationError, match=f"did you mean `{meant}`" if meant else "known are animate_"):
        registry.get_task_type(given)


def test_every_parameter_is_described_when_a_form_is_made() -> None:
    for name, declared in registry.task_types().items():
        schema = declared.params.model_json_schema()
        for model in (schema, *schema.get("$defs", {}).values()):
            bare = [field for field, known in model.get("properties", {}).items() if not known.get("description")]
            assert not bare, f"{name}: {bare}"
