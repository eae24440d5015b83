"""The examples that bring their own worker run against a database alone; the others run in tests/flows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from PIL import Image

from db import tables
from tasks_lib import create_task, database, get_task, storage, upload_media
from tests.conftest import Owner

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RUN_BY = (Path(__file__), ROOT / "tests/flows/test_examples.py", ROOT / "Makefile")


def run(example: str, *arguments: str) -> str:
    """Run an example as a user would, and give what it printed."""
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def picture(folder: Path) -> Path:
    path = folder / "picture.png"
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(path)
    return path


def size_of(location: str | None, folder: Path) -> tuple[int, int]:
    assert location
    storage.fetch(location, folder / "output.png")
    with Image.open(folder / "output.png") as made:
        return made.size


def test_task_is_complete_when_a_worker_of_ones_own_has_it(owner: Owner, tmp_path: Path) -> None:
    params = {"image_url": upload_media(picture(tmp_path), project_id=owner.project_id), "scale_factor": 3}
    created = create_task("image_upscale", params, project_id=owner.project_id)
    assert run("own_worker.py", "1").endswith("is complete\n")
    task = get_task(created.task_id)
    assert task.status == "Complete"
    assert size_of(task.output_location, tmp_path) == (180, 120)
    with database.transaction() as connection:
        (worker,) = connection.execute(sa.select(tables.workers)).all()
    assert worker.stopped_at is not None


def test_task_is_failed_with_the_reason_when_its_picture_is_none(owner: Owner, tmp_path: Path) -> None:
    params = {"image_url": upload_media(picture(tmp_path), project_id=owner.project_id)}
    created = create_task("image_upscale", params, project_id=owner.project_id)
    storage.remove(storage.key_of(params["image_url"], owner.project_id))
    run("own_worker.py", "1")
    task = get_task(created.task_id)
    assert (task.status, task.error_kind) == ("Failed", "not_found"), task.error_message


def test_picture_is_turned_when_the_type_is_ones_own(owner: Owner, tmp_path: Path) -> None:
    printed = run("own_type", str(owner.project_id), str(picture(tmp_path)))
    assert printed.startswith("Complete file://")
    with Image.open(printed.split()[1].removeprefix("file://")) as turned:
        assert turned.size == (40, 60)


def test_type_of_ones_own_is_the_one_that_the_page_shows_when_both_are_read() -> None:
    page = (ROOT / "docs/adding-a-task-type.md").read_text()
    assert (EXAMPLES / "own_type/rotate_image.py").read_text() in page


def test_every_example_is_run_by_a_test_when_one_is_added() -> None:
    run_by_tests = "".join(path.read_text() for path in RUN_BY)
    names = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(("__", "."))}
    assert {
        name for name in names if f'"{name}"' not in run_by_tests and f"examples/{name}" not in run_by_tests
    } == set()
