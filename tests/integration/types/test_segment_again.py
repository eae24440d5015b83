"""One segment made again, with real frames: through create, claim, execute and complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from db import tables
from tasks_lib import create_individual_travel_segment_task, get_task, queue, storage, upload_media
from tasks_lib.engines.bench import Bench
from tasks_lib.media.images import save_png
from tasks_lib.media.video import probe, read_frames
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner
from tests.integration.types.test_helpers import insert, rows


def test_segment_has_its_frames_and_ends_on_its_images_when_it_is_made_again(owner: Owner, tmp_path: Path) -> None:
    references = []
    for name, grey in (("start", 40), ("end", 200)):
        save_png(tmp_path / f"{name}.png", np.full((64, 96, 3), grey, np.uint8))
        references.append(upload_media(tmp_path / f"{name}.png", project_id=owner.project_id))
    film = insert(tables.generations, project_id=owner.project_id, type="video")
    created = create_individual_travel_segment_task(
        project_id=owner.project_id,
        parent_generation_id=film,
        segment_index=2,
        start_image_url=references[0],
        end_image_url=references[1],
        num_frames=11,
        resolution="96x64",
        generation_name="the third",
    )
    (task,) = queue.claim("gpu", "worker")
    folder = tmp_path / "work"
    folder.mkdir()
    execute = get_task_type(task.task_type).execute
    assert execute is not None
    queue.complete(task.lease, execute(Bench(task, folder, lambda _: None, lambda: False)))

    done = get_task(created.task_id)
    assert (done.status, done.params["num_frames"]) == ("Complete", 9)
    clip = tmp_path / "clip.mp4"
    assert done.output_location is not None
    storage.fetch(done.output_location, clip)
    facts = probe(clip)
    assert (facts.frames, facts.width, facts.height, facts.fps) == (9, 96, 64, 16)
    shown = [float(frame.mean()) for frame in read_frames(clip)]
    assert abs(shown[0] - 40) < 3
    assert abs(shown[-1] - 200) < 3
    child = next(row for row in rows(tables.generations) if row.parent_generation_id == film)
    assert (child.child_order, child.name, child.location) == (2, "the third", done.output_location)
