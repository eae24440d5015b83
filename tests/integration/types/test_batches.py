"""Batches from lists: what is valid is created, the rest is named by row."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from flows import scheduled_batch
from tasks_lib import create_template, get_task, list_tasks, storage
from tasks_lib.batches import BatchReport, create_what_is_valid, fetch_items, read_items, upload_folder
from tasks_lib.cli import app
from tasks_lib.errors import AuthenticationError, TaskValidationError
from tasks_lib.settings import get_settings
from tests.conftest import Owner


def requests(owner: Owner, *params: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"task_type": "z_image_turbo", "project_id": owner.project_id, "idempotency_key": f"row {i}", "params": given}
        for i, given in enumerate(params)
    ]


def test_report_names_created_present_and_refused_when_a_batch_is_repeated(owner: Owner) -> None:
    good, bad, unknown = {"prompt": "a"}, {"prompt": ""}, {"prompt": "a", "shot_id": str(owner.user_id)}
    first = create_what_is_valid(requests(owner, good, bad, unknown, good))
    assert (len(first.created), first.already_there) == (2, ())
    assert [(refusal.index, refusal.field) for refusal in first.refused] == [(1, "prompt"), (2, "shot_id")]

    second = create_what_is_valid(requests(owner, good, bad, unknown, {"prompt": "another"}))
    assert (second.created, second.already_there) == ((), first.created[:1])
    assert [refusal.index for refusal in second.refused] == [1, 2, 3]
    assert "used before with another request" in second.refused[2].message
    assert len(list_tasks()) == 2


def test_batch_is_refused_as_a_whole_when_nobody_may_create_it(owner: Owner) -> None:
    with pytest.raises(AuthenticationError):
        create_what_is_valid(requests(owner, {"prompt": "a"}), token="unk_nobody")


def test_cells_are_text_or_numbers_as_their_parameters_are_when_a_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt,seed,random_seed,loras\n42,7,,"[{""path"": ""a""}]"\nb,x,true,\n')
    assert read_items(path, "z_image_turbo") == [
        {"prompt": "42", "seed": 7, "loras": [{"path": "a"}]},
        {"prompt": "b", "seed": "x", "random_seed": True},
    ]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("rows.jsonl", '{"prompt": "a"}\n[1]\n', "line 2 of `rows.jsonl` must be a JSON object"),
        ("rows.jsonl", "{", "line 1 of `rows.jsonl` is not JSON"),
        ("rows.xml", "", "must be a .jsonl or .csv file"),
        ("rows.csv", "", "the first line of a table names the parameters"),
        ("rows.csv", "prompt,,seed\na,b,1\n", "names the parameters, each once"),
        ("rows.csv", "prompt,prompt\na,b\n", "names the parameters, each once"),
        ("rows.csv", "prompt,seed\na,1\nb,2,3\n", "line 3 of the table has more cells than its head"),
    ],
)
def test_file_is_refused_with_its_line_when_it_is_no_list(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TaskValidationError, match=problem):
        read_items(path, "z_image_turbo")


def test_places_are_read_only_when_they_are_allowed(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"prompt": "a"}\n\n{"prompt": "b"}\n')
    for name in ("b.png", "a.png", "notes.txt"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + name.encode())
    with pytest.raises(TaskValidationError, match="UNITASK_BATCH_URLS"):
        fetch_items(f"file://{folder}/rows.jsonl", "z_image_turbo")

    monkeypatch.setenv("UNITASK_BATCH_URLS", f'["file://{folder}/"]')
    get_settings.cache_clear()
    assert fetch_items(f"file://{folder}/rows.jsonl", "z_image_turbo") == [{"prompt": "a"}, {"prompt": "b"}]
    with pytest.raises(TaskValidationError, match="UNITASK_BATCH_URLS"):
        upload_folder(f"file://{folder}/../*.png", project_id=owner.project_id)
    references = upload_folder(f"file://{folder}/*", project_id=owner.project_id)
    assert len(references) == 2
    assert all(storage.exists(storage.key_of(reference, owner.project_id)) for reference in references)


def test_schedule_collects_rows_of_a_file_or_a_row_for_each_picture_when_it_is_told_where(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.csv").write_text("image_url,scale_factor\nhttps://example.com/1.jpg,4\nnowhere,2\n")
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + name.encode())
    monkeypatch.setenv("UNITASK_BATCH_URLS", f'["file://{tmp_path}/"]')
    get_settings.cache_clear()
    create_template(
        "larger", "image_upscale", {"scale_factor": 8}, project_id=owner.project_id, open_fields=["image_url"]
    )

    def run(occasion: str = "monday", **given: Any) -> BatchReport:
        lists: dict[str, Any] = {"items": [], "items_url": None, "images": None, **given}
        token = SecretStr(owner.token)
        where: dict[str, Any] = {"project_id": str(owner.project_id), "template": "larger", "images_field": "image_url"}
        requests = asyncio.run(scheduled_batch.collect.fn(**where, **lists, occasion=occasion, token=token))
        return asyncio.run(scheduled_batch.create.fn(requests, token))

    of_file = run(items_url=f"file://{tmp_path}/rows.csv")
    assert (len(of_file.created), [(row.index, row.field) for row in of_file.refused]) == (1, [(1, "image_url")])
    of_images = run("tuesday", images=f"file://{tmp_path}/*.png")
    assert len(of_images.created) == 2
    assert run("tuesday", images=f"file://{tmp_path}/*.png").already_there == of_images.created
    params = [get_task(task).params for task in (*of_file.created, *of_images.created)]
    assert [row["scale_factor"] for row in params] == [4, 8, 8]
    assert [row["image_url"].rpartition(".")[2] for row in params] == ["jpg", "png", "png"]
    neither: dict[str, Any] = {}
    for lists in (neither, {"images": "x", "items": [{}]}):
        with pytest.raises(TaskValidationError, match="give one of `items`, `items_url` and `images`"):
            run(**lists)


def test_command_creates_a_file_of_rows_when_a_template_is_named(owner: Owner, tmp_path: Path) -> None:
    def unitask(*arguments: str) -> Any:
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    rows = tmp_path / "rows.csv"
    rows.write_text('prompt,seed\na,7\n"",1\n')
    unitask("templates", "save", "house style", "z_image_turbo", "--set", "steps=4", "--open", "prompt")
    assert "house style" in unitask("templates", "list")
    with pytest.raises(TaskValidationError) as refused:
        unitask("batch", str(rows), "--template", "house style")
    assert (refused.value.refusals[0].index, list_tasks()) == (1, [])
    report = json.loads(unitask("batch", str(rows), "--template", "house style", "--skip-refused", "-o", "json"))
    assert (len(report["created"]), [row["index"] for row in report["refused"]]) == (1, [1])
    (task,) = list_tasks()
    assert (task.params["prompt"], task.params["seed"], task.params["steps"]) == ("a", 7, 4)
    unitask("templates", "delete", "house style")
    assert unitask("templates", "list", "-o", "json") == "[]\n"


def test_place_ends_at_a_slash_and_links_lead_nowhere_when_a_list_is_fetched(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, secret = tmp_path / "in", tmp_path / "in-secret"
    for folder in (allowed, secret):
        folder.mkdir()
        (folder / "rows.jsonl").write_text('{"prompt": "a"}')
        (folder / "a.png").write_bytes(b"x")
    (allowed / "link.jsonl").symlink_to(secret / "rows.jsonl")
    (allowed / "folder").symlink_to(secret)
    monkeypatch.setenv("UNITASK_BATCH_URLS", f'["file://{allowed}"]')
    get_settings.cache_clear()
    assert fetch_items(f"file://{allowed}/rows.jsonl", "z_image_turbo") == [{"prompt": "a"}]
    wrong = [f"file://{secret}/rows.jsonl", f"file://{allowed}/link.jsonl", f"file://{allowed}/folder/rows.jsonl"]
    for url in [*wrong, f"file://{allowed}/rows.jsonl::file://{secret}/rows.jsonl"]:
        with pytest.raises(TaskValidationError, match="UNITASK_BATCH_URLS"):
            fetch_items(url, "z_image_turbo")
    for pattern in (f"file://{secret}/*.png", f"file://{allowed}*/*.png", f"file://{allowed}/folder/*.png"):
        with pytest.raises(TaskValidationError, match="UNITASK_BATCH_URLS"):
            upload_folder(pattern, project_id=owner.project_id)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_memory_stays_small_when_a_list_has_millions_of_rows(tmp_path: Path, owner: Owner, name: str) -> None:
    path = tmp_path / name
    row = '{"prompt": "a"}' if name.endswith("jsonl") else "a,1"
    with path.open("w") as file:
        file.write("prompt,seed\n" if name.endswith("csv") else "")
        file.writelines(f"{row}\n" for _ in range(3_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TaskValidationError, match="more than 20000 rows"):
            read_items(path, "z_image_turbo")
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    path.write_text("x" * 3_000_000)
    with pytest.raises(TaskValidationError, match="too long"):
        read_items(path, "z_image_turbo")
