"""Errors and notes speak of the fields that a person filled in, not of temporary files or parts of a film."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from tasks_lib import create_task, get_task, list_tasks, queue, upload_media
from tasks_lib.cli import app
from tasks_lib.client import Task
from tasks_lib.creation import plant_children
from tasks_lib.engines.bench import Bench, execute
from tasks_lib.errors import TaskError, TaskValidationError
from tasks_lib.media.video import write_video
from tasks_lib.settings import get_settings
from tests.conftest import Owner
from tests.scenes import photograph

SIZE = "96x64"


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing of it."""

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests readable."""


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test's folder at an http address."""
    monkeypatch.setenv("UNITASK_ALLOW_PRIVATE_URLS", "true")
    get_settings.cache_clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def files(owner: Owner, tmp_path: Path, web: str) -> dict[str, str]:
    """By what it is, a reference or address of good media and of each kind of bad."""
    Image.fromarray(photograph("coffee.png")[100:164, 100:196]).save(tmp_path / "good.png")
    whole = tmp_path / "whole.jpg"
    Image.fromarray(photograph("chelsea.png")[:64, :96]).save(whole)
    (tmp_path / "broken.jpg").write_bytes(whole.read_bytes()[:400])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "text.mp4").write_text("not a clip")
    Image.new("L", (9000, 9000)).save(tmp_path / "huge.png")
    clip = (photograph("astronaut.png")[20:84, 100 + i : 196 + i] for i in range(24))
    write_video(tmp_path / "clip.mp4", clip, 24, lossless=False)

    def kept(name: str) -> str:
        return upload_media(tmp_path / name, project_id=owner.project_id)

    return {
        "good": kept("good.png"),
        "clip": kept("clip.mp4"),
        "a broken JPEG": kept("broken.jpg"),
        "a broken JPEG at a URL": f"{web}/broken.jpg",
        "nothing at a URL": f"{web}/missing.png",
        "a clip for a picture": kept("clip.mp4"),
        "a text": f"{web}/text.png",
        "a picture that is too large": f"{web}/huge.png",
        "a picture for a clip": kept("good.png"),
        "a text for a clip": f"{web}/text.mp4",
    }


def ended(owner: Owner, task_type: str, params: dict[str, Any], folder: Path) -> Task:
    """A task that was created, and executed until it or a part of it has ended for good."""
    created = create_task(task_type, params, project_id=owner.project_id)
    for hosted in queue.claim("api", "host", hosted=True):
        plant_children(hosted)
    while claimed := queue.claim("gpu", "worker", limit=10):
        for task in claimed:
            (folder / str(task.id)).mkdir(parents=True, exist_ok=True)
            bench = Bench(task, folder / str(task.id), lambda _: None, lambda: False)
            try:
                queue.complete(task.lease, execute(bench))
            except TaskError as error:
                queue.fail(task.lease, error)
    return get_task(created.task_id)


BAD_PICTURES = [
    "a broken JPEG",
    "a broken JPEG at a URL",
    "nothing at a URL",
    "a clip for a picture",
    "a text",
    "a picture that is too large",
]


@pytest.mark.parametrize("bad", BAD_PICTURES)
def test_place_in_the_request_is_named_when_one_of_its_pictures_is_bad(
    owner: Owner, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setenv("UNITASK_IMAGE_PIXELS", "1000000")
    get_settings.cache_clear()
    travel = {"base_prompts": ["a walk"], "segment_frames": 5, "resolution": SIZE}
    for place in (1, 2):
        images = [files["good"]] * 3
        images[place] = files[bad]
        task = ended(owner, "travel_orchestrator", travel | {"image_urls": images}, tmp_path / "work")
        assert task.status == "Failed"
        assert f"`image_urls[{place}]`" in str(task.error_message)
        assert "input_" not in str(task.error_message)
        assert "/tmp" not in str(task.error_message)


@pytest.mark.parametrize(
    ("task_type", "field", "bad"),
    [
        ("image_upscale", "image_url", "a broken JPEG"),
        ("individual_travel_segment", "end_image_url", "a text"),
        ("join_clips_orchestrator", "clips[0]", "a text for a clip"),
        ("join_clips_orchestrator", "clips[2]", "a picture for a clip"),
        ("join_clips_orchestrator", "audio_url", "a text"),
    ],
)
def test_field_is_named_when_its_file_is_bad(
    owner: Owner, files: dict[str, str], tmp_path: Path, task_type: str, field: str, bad: str
) -> None:
    clips = [files["clip"]] * 3
    requests: dict[str, dict[str, Any]] = {
        "image_upscale": {"image_url": files[bad]},
        "individual_travel_segment": {
            "segment_index": 0,
            "parent_generation_id": str(_film(owner)),
            "start_image_url": files["good"],
            "end_image_url": files[bad],
            "num_frames": 5,
            "resolution": SIZE,
        },
        "join_clips_orchestrator": {"clips": clips, "context_frame_count": 4, "gap_frame_count": 5},
    }
    params = requests[task_type]
    if field.startswith("clips"):
        clips[int(field[6])] = files[bad]
    elif task_type == "join_clips_orchestrator":
        params["audio_url"] = files[bad]
    task = ended(owner, task_type, params, tmp_path / "work")
    assert task.status == "Failed"
    assert f"`{field}`" in str(task.error_message)
    assert "input_" not in str(task.error_message)


def _film(owner: Owner) -> Any:
    from db import tables
    from tests.integration.types.test_helpers import insert

    return insert(tables.generations, project_id=owner.project_id, type="video")


def test_film_says_once_what_was_asked_for_and_not_followed(
    owner: Owner, files: dict[str, str], tmp_path: Path
) -> None:
    """With what the person set, and nothing of the defaults; wherever they look."""
    travel = {
        "image_urls": [files["good"]] * 6,
        "base_prompts": ["a walk"],
        "negative_prompts": ["rain"],
        "segment_frames": 5,
        "resolution": SIZE,
        "steps": 7,
        "amount_of_motion": 0.8,
        "enhance_prompt": False,
    }
    task = ended(owner, "travel_orchestrator", travel, tmp_path / "work")
    assert task.status == "Complete", task.error_message
    named = sorted(note.split("`")[1] for note in task.notes)
    assert named == ["amount_of_motion", "base_prompts", "negative_prompts", "steps"], task.notes
    (segment, *_) = list_tasks(parent_task_id=task.id)
    assert "`negative_prompts` was not followed" in " ".join(segment.notes)
    shown = CliRunner().invoke(app, ["show", str(task.id), "-o", "json"])
    assert json.loads(shown.stdout)["notes"] == task.notes
    assert "amount_of_motion` was not" in CliRunner().invoke(app, ["show", str(task.id)]).stdout


def test_missing_adapter_is_refused_under_its_field_when_its_folder_is_known(
    owner: Owner, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    travel: dict[str, Any] = {
        "image_urls": [files["good"]] * 3,
        "base_prompts": ["a walk"],
        "segment_frames": 5,
        "resolution": SIZE,
        "loras": [{"path": "there"}],
    }
    (tmp_path / "there.safetensors").write_bytes(b"an adapter")
    monkeypatch.setenv("UNITASK_LORA_FOLDER", str(tmp_path))
    get_settings.cache_clear()
    found = ended(owner, "travel_orchestrator", travel, tmp_path / "work")
    assert "`loras` was not followed" in " ".join(found.notes)
    travel["pair_loras"] = [None, [{"path": "there"}, {"path": "missing"}]]
    # A worker elsewhere says it, and a creator on the same machine before anything is stored.
    failed = ended(owner, "travel_orchestrator", travel, tmp_path / "again")
    assert "`pair_loras[1][1].path`: there is no adapter `missing`" in str(failed.error_message)
    monkeypatch.setenv("UNITASK_DATABASE_URL", "")
    get_settings.cache_clear()
    with pytest.raises(TaskValidationError, match="UNITASK_LORA_FOLDER") as refused:
        create_task("travel_orchestrator", travel, project_id=owner.project_id)
    assert refused.value.field == "pair_loras[1][1].path"
