"""Task types that make a picture without a model, with real pixels: through create, claim, execute and complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks_lib import (
    create_image_inpaint_task,
    create_image_upscale_task,
    database,
    get_task,
    queue,
    storage,
    upload_media,
)
from tasks_lib.client import Task
from tasks_lib.engines.bench import Bench
from tasks_lib.media.images import probe_image, read_picture, save_png
from tasks_lib.settings import get_settings
from tasks_lib.types import table
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner
from tests.scenes import photograph


def executed(task_id: object, folder: Path) -> Task:
    """Claim and execute the one task that waits, as the engine process does."""
    (claimed,) = queue.claim("gpu", "worker")
    folder.mkdir()
    execute = get_task_type(claimed.task_type).execute
    assert execute is not None
    queue.complete(claimed.lease, execute(Bench(claimed, folder, lambda _: None, lambda: False)))
    task = get_task(task_id)  # type: ignore[arg-type]
    assert task.status == "Complete", task.error_message
    return task


def stored(task: Task, folder: Path) -> Path:
    assert task.output_location is not None
    path = folder / Path(task.output_location).name
    storage.fetch(task.output_location, path)
    return path


@pytest.mark.parametrize(("factor", "given", "kept"), [(2, "png", "png"), (4, "jpeg", "jpeg"), (8, "webp", "webp")])
def test_picture_is_larger_and_repeats_when_it_is_upscaled(
    owner: Owner, tmp_path: Path, factor: int, given: str, kept: str
) -> None:
    Image.fromarray(photograph("coffee.png")[:40, :60]).save(tmp_path / "small.png")
    reference = upload_media(tmp_path / "small.png", project_id=owner.project_id)
    made = []
    for attempt in ("first", "second"):
        created = create_image_upscale_task(
            project_id=owner.project_id,
            image_url=reference,
            scale_factor=factor,
            output_format=given,  # type: ignore[arg-type]
        )
        task = executed(created.task_id, tmp_path / attempt)
        path = stored(task, tmp_path)
        made.append(path.read_bytes())
        facts = probe_image(path)
        assert (facts.width, facts.height, facts.format) == (60 * factor, 40 * factor, kept)
        assert task.result is not None
        assert task.result["media"] == facts.as_dict()
        assert task.result["provenance"]["engine"] == "embedded"
    assert made[0] == made[1]


def test_transparency_and_colours_are_kept_when_a_picture_is_upscaled(owner: Owner, tmp_path: Path) -> None:
    image = Image.fromarray(photograph("chelsea.png")[:48, :48])
    alpha = np.zeros((48, 48), np.uint8)
    alpha[:, 24:] = 255
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "cut.png", icc_profile=b"a profile")
    created = create_image_upscale_task(
        project_id=owner.project_id,
        image_url=upload_media(tmp_path / "cut.png", project_id=owner.project_id),
        output_format="jpeg",
    )
    path = stored(executed(created.task_id, tmp_path / "work"), tmp_path)
    assert path.suffix == ".png", "jpeg cannot hold transparency"
    with Image.open(path) as made:
        planes = np.asarray(made)
        assert made.info["icc_profile"] == b"a profile"
    assert planes.shape == (96, 96, 4)
    assert (planes[:, :40, 3] == 0).all()
    assert (planes[:, 56:, 3] == 255).all()


def test_only_the_masked_part_changes_when_a_picture_is_inpainted_by_our_own_engine(
    owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITASK_PROVIDERS", '{"image_inpaint": "engine"}')
    get_settings.cache_clear()
    table.sync(database.get_engine())
    image = photograph("coffee.png")[:72, :96].copy()
    mask = np.zeros_like(image)
    mask[30:44, 40:60] = 255
    references = []
    for name, pixels in (("image", image), ("mask", mask)):
        save_png(tmp_path / f"{name}.png", pixels)
        references.append(upload_media(tmp_path / f"{name}.png", project_id=owner.project_id))
    made = []
    for attempt in ("first", "second"):
        created = create_image_inpaint_task(
            project_id=owner.project_id, image_url=references[0], mask_url=references[1], prompt="wood", seed=1
        )
        task = executed(created.task_id, tmp_path / attempt)
        made.append(read_picture(stored(task, tmp_path)).pixels)
        assert task.result is not None
        assert task.result["provenance"]["method"] == "patches"
        assert any("prompt" in note for note in task.result["provenance"]["notes"])
    assert np.array_equal(made[0], made[1])
    kept = mask[..., 0] == 0
    assert np.array_equal(made[0][kept], image[kept])
    assert not np.array_equal(made[0], image)
