"""Clips of different sizes and rates become one film, through create, plan, claim, execute and complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks_lib import create_join_clips_task, get_task, queue, upload_media
from tasks_lib.creation import plant_children
from tasks_lib.engines.base import Frame
from tasks_lib.engines.bench import Bench
from tasks_lib.media.video import probe, read_frames, write_video
from tasks_lib.queue import ClaimedTask
from tasks_lib.storage import fetch
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner


def clip(
    folder: Path, name: str, colour: tuple[int, int, int], *, frames: int, size: tuple[int, int], fps: float
) -> Path:
    """A clip of one colour that slowly brightens."""
    path = folder / f"{name}.mp4"
    width, height = size

    def pictures() -> list[Frame]:
        return [np.full((height, width, 3), np.add(colour, i // 2), np.uint8) for i in range(frames)]

    write_video(path, iter(pictures()), fps, lossless=False)
    return path


def run(task: ClaimedTask, folder: Path) -> None:
    """Execute a claimed task here, as the engine process does."""
    folder.mkdir()
    execute = get_task_type(task.task_type).execute
    assert execute is not None
    queue.complete(task.lease, execute(Bench(task, folder, lambda _: None, lambda: False)))


@pytest.mark.parametrize(("replace", "frames"), [(True, 24 + 24 + 30), (False, 24 + 24 + 30 + 2 * 9)])
def test_film_has_the_planned_frames_when_clips_differ_in_size_and_rate(
    owner: Owner, tmp_path: Path, replace: bool, frames: int
) -> None:
    clips = [
        clip(tmp_path, "red", (120, 20, 20), frames=24, size=(96, 64), fps=16),
        clip(tmp_path, "green", (20, 120, 20), frames=48, size=(64, 96), fps=32),
        clip(tmp_path, "blue", (20, 20, 120), frames=30, size=(96, 64), fps=16),
    ]
    created = create_join_clips_task(
        project_id=owner.project_id,
        clips=[{"url": upload_media(path, project_id=owner.project_id)} for path in clips],
        context_frame_count=4,
        gap_frame_count=9,
        replace_mode=replace,
        seed=1,
    )
    (film,) = queue.claim("api", "host", hosted=True)
    plant_children(film)
    bridges = queue.claim("gpu", "worker", limit=10)
    assert [task.task_type for task in bridges] == ["join_clips_segment"] * 2
    for task in bridges:
        run(task, tmp_path / str(task.child_key))
    (stitch,) = queue.claim("gpu", "worker", limit=10)
    run(stitch, tmp_path / "stitch")

    done = get_task(created.task_id)
    assert done.status == "Complete", done.error_message
    assert done.output_location is not None
    result = tmp_path / "film.mp4"
    fetch(done.output_location, result)
    facts = probe(result)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (frames, 96, 64, 16)
    shown = [int(np.argmax(frame.mean(axis=(0, 1)))) for frame in read_frames(result)]
    assert [shown[0], shown[frames // 2 - 3], shown[-1]] == [0, 1, 2]
