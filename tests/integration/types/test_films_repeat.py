"""Films without a model, made twice from create to complete, and no type with an engine that is not tried."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from tasks_lib import create_task, get_task, list_tasks, queue, storage, upload_media
from tasks_lib.client import Task
from tasks_lib.creation import plant_children
from tasks_lib.engines.bench import Bench
from tasks_lib.media.video import probe, write_video
from tasks_lib.types.registry import get_task_type, task_types
from tests.conftest import Owner
from tests.integration.test_models import requests, same
from tests.scenes import photograph

WIDTH, HEIGHT = 96, 64
MADE = {"travel_segment": 5, "travel_stitch": 9, "join_clips_segment": 4 + 5 + 4, "join_final_stitch": 24}
"""By type, how many frames its output has here."""


def uploads(owner: Owner, folder: Path) -> dict[str, list[str]]:
    """Three framings of a photograph, and two clips that pan over another."""
    pictures, clips = [], []
    for i in range(3):
        path = folder / f"{i}.png"
        Image.fromarray(photograph("coffee.png")[100:228, 100 + 8 * i : 292 + 8 * i]).save(path)
        pictures.append(upload_media(path, project_id=owner.project_id))
    for name, top in (("first", 20), ("second", 30)):
        path = folder / f"{name}.mp4"
        shown = (photograph("astronaut.png")[top : top + HEIGHT, 100 + i : 100 + i + WIDTH] for i in range(12))
        write_video(path, shown, 16, lossless=False)
        clips.append(upload_media(path, project_id=owner.project_id))
    return {"pictures": pictures, "clips": clips}


def made(owner: Owner, task_type: str, params: dict[str, Any], folder: Path) -> dict[str, tuple[Task, Path]]:
    """By key, the tasks of a film and their outputs; `film` is the whole of it."""
    created = create_task(task_type, params, project_id=owner.project_id)
    (hosted,) = queue.claim("api", "host", hosted=True)
    plant_children(hosted)
    while claimed := queue.claim("gpu", "worker", limit=10):
        for task in claimed:
            (folder / str(task.id)).mkdir(parents=True)
            execute = get_task_type(task.task_type).execute
            assert execute is not None
            queue.complete(task.lease, execute(Bench(task, folder / str(task.id), lambda _: None, lambda: False)))
    tasks = {"film": get_task(created.task_id)}
    tasks |= {str(child.child_key): child for child in list_tasks(parent_task_id=created.task_id)}
    return {key: (task, stored(task, folder)) for key, task in tasks.items()}


def stored(task: Task, folder: Path) -> Path:
    assert task.status == "Complete", task.error_message
    assert task.output_location is not None
    path = folder / f"{task.id}.mp4"
    storage.fetch(task.output_location, path)
    return path


@pytest.mark.parametrize("task_type", ["travel_orchestrator", "join_clips_orchestrator"])
def test_film_and_its_parts_are_the_same_again_when_the_seed_is(owner: Owner, tmp_path: Path, task_type: str) -> None:
    media = uploads(owner, tmp_path)
    params: dict[str, Any] = {
        "travel_orchestrator": {
            "image_urls": media["pictures"],
            "base_prompts": ["a walk"],
            "segment_frames": MADE["travel_segment"],
            "frame_overlap": 0,
            "resolution": f"{WIDTH}x{HEIGHT}",
            "seed": 5,
        },
        "join_clips_orchestrator": {
            "clips": [{"url": reference} for reference in media["clips"]],
            "context_frame_count": 4,
            "gap_frame_count": 5,
            "seed": 5,
        },
    }[task_type]
    first, again = (made(owner, task_type, params, tmp_path / name) for name in ("first", "again"))
    assert list(first) == list(again)
    for key, (task, film) in first.items():
        assert same(film, again[key][1]), key
        facts = probe(film)
        assert (facts.width, facts.height) == (WIDTH, HEIGHT), key
        frames = MADE.get(task.task_type, MADE["travel_stitch" if "travel" in task_type else "join_final_stitch"])
        assert facts.frames == frames, key


def test_no_type_is_left_out_when_engines_are_tried_from_create_to_complete() -> None:
    with_models = {task_type for task_type, _, _ in requests(defaultdict(str), str(UUID(int=0))).values()}
    executed = {declared.name for declared in task_types().values() if declared.execute is not None}
    # By the very function of `image_upscale`.
    assert executed == with_models | set(MADE) | {"replicate_upscale"}
