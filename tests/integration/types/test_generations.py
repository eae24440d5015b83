"""Every task type: from a request to the exact generations, variants and shot links that its completion leaves.

A generation is written in one line: what it is, and its variants in the order of their making, the primary one with
a star. `SHOT`, `FILM`, ... are what the project had before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from db import tables
from tasks_lib import create_task, database, get_task, queue, storage, upload_media
from tasks_lib.creation import plant_children
from tasks_lib.engines.bench import Bench
from tasks_lib.media.images import save_png
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.types.registry import get_task_type, task_types
from tests.conftest import Owner
from tests.integration.types.test_golden_rows import CHILD, FILM, IMAGE, NEXT_SLOT, SHOT, SLOT, VARIANT, world
from tests.integration.types.test_helpers import insert, rows

__all__ = ["world"]

SHORT, TAKE = (UUID(f"00000000-0000-4000-8000-0000000000{n}") for n in (50, 51))
NAMES = {value: name for name, value in globals().items() if isinstance(value, UUID)}

URL = "https://example.com/1.jpg"
PICTURE = {"prompt": "a harbour"}
EDIT = {"prompt": "a boat", "image_url": URL}
MASKED = {**EDIT, "mask_url": URL}
JOURNEY = {"image_urls": [URL] * 4, "base_prompts": ["a walk"], "segment_frames": 9}
CLIPS = {"clips": [{"url": f"https://example.com/{i}.mp4"} for i in range(3)]}
SEGMENT = {"start_image_url": URL, "segment_index": 0, "num_frames": 9}
ACTOR = {"character_image_url": URL, "motion_video_url": URL}

OF_IMAGE = {"based_on": str(IMAGE), "source_variant_id": str(VARIANT)}
IN_SHOT = {"shot_id": str(SHOT)}

# (task type, request, lines that are new or changed afterwards)
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("single_image", PICTURE, ["image: original*"]),
    ("single_image", PICTURE | IN_SHOT, ["image in SHOT: original*"]),
    ("wan_2_2_t2i", PICTURE | IN_SHOT, ["image in SHOT: original*"]),
    ("qwen_image", PICTURE | IN_SHOT, ["image in SHOT: original*"]),
    ("qwen_image_2512", PICTURE | IN_SHOT, ["image in SHOT: original*"]),
    ("qwen_image_style", PICTURE | IN_SHOT | {"style_reference_image": URL}, ["image in SHOT: original*"]),
    ("z_image_turbo", PICTURE | IN_SHOT, ["image in SHOT: original*"]),
    ("animate_character", ACTOR | IN_SHOT, ["video in SHOT: original*"]),
    # An edit: without a source, beside its source, and as a generation of its own.
    ("magic_edit", EDIT | IN_SHOT, ["image in SHOT: original*"]),
    ("magic_edit", EDIT | OF_IMAGE, ["IMAGE, image: original*, magic_edit"]),
    ("qwen_image_edit", EDIT | OF_IMAGE | IN_SHOT, ["IMAGE, image: original*, magic_edit"]),
    ("image_inpaint", MASKED | OF_IMAGE, ["IMAGE, image: original*, inpaint"]),
    (
        "image_inpaint",
        MASKED | OF_IMAGE | IN_SHOT | {"create_as_generation": True},
        ["image based on IMAGE in SHOT: original*"],
    ),
    ("annotated_image_edit", MASKED | OF_IMAGE, ["IMAGE, image: original*, annotated_edit"]),
    ("z_image_turbo_i2i", EDIT | OF_IMAGE, ["IMAGE, image: original*, edit"]),
    ("z_image_turbo_i2i", EDIT | OF_IMAGE | {"create_as_generation": True}, ["image based on IMAGE: original*"]),
    # A larger picture is shown in place of the smaller one.
    ("image_upscale", {"image_url": URL, "generation_id": str(IMAGE)}, ["IMAGE, image: original, upscaled*"]),
    ("replicate_upscale", {"image_url": URL, "generation_id": str(IMAGE)}, ["IMAGE, image: original, upscaled*"]),
    ("replicate_upscale", {"image_url": URL} | IN_SHOT, ["image in SHOT: original*"]),
    # Turbo: a video and never an image; into a film that is there as its film.
    ("wan_2_2_i2v", JOURNEY | IN_SHOT, ["video in SHOT: original*"]),
    ("wan_2_2_i2v", JOURNEY | {"parent_generation_id": str(FILM)}, ["FILM, video: travel_stitch*"]),
    (
        "travel_orchestrator",
        JOURNEY | IN_SHOT | {"generation_name": "A walk"},
        [
            "video `A walk` in SHOT: travel_stitch*",
            "part 0 of `A walk`, video: original*",
            "part 1 of `A walk`, video: original*",
            "part 2 of `A walk`, video: original*",
        ],
    ),
    # One image: a film of one segment.
    (
        "travel_orchestrator",
        JOURNEY | {"image_urls": [URL], "generation_name": "A look"},
        ["video `A look`: travel_stitch*", "part 0 of `A look`, video: original*"],
    ),
    # Into a film that is there: its part 1 is made again beside what a person chose.
    (
        "travel_orchestrator",
        JOURNEY | {"image_urls": [URL] * 3, "parent_generation_id": str(FILM)},
        [
            "FILM, video: travel_stitch*",
            "CHILD, part 1 of FILM, video: original*, travel_segment",
            "part 0 of FILM, video: original*",
        ],
    ),
    # Its pairs have places on the timeline, which CHILD has not: both are parts of their own.
    (
        "travel_orchestrator",
        JOURNEY
        | {
            "image_urls": [URL] * 3,
            "parent_generation_id": str(FILM),
            "pair_shot_generation_ids": [str(SLOT), str(NEXT_SLOT)],
        },
        [
            "FILM, video: travel_stitch*",
            "part 0 of FILM at SLOT, video: original*",
            "part 1 of FILM at NEXT_SLOT, video: original*",
        ],
    ),
    (
        "join_clips_orchestrator",
        CLIPS | IN_SHOT,
        [
            "video in SHOT: join_final_stitch*",
            "part 0 of the film, video: original*",
            "part 1 of the film, video: original*",
        ],
    ),
    (
        "join_clips_orchestrator",
        CLIPS | {"parent_generation_id": str(FILM)},
        [
            "FILM, video: join_final_stitch*",
            "CHILD, part 1 of FILM, video: original*, join_clips_segment",
            "part 0 of FILM, video: original*",
        ],
    ),
    # One segment again: of a film by its place, of a child by its id, primary or not, and for a shot alone.
    (
        "individual_travel_segment",
        SEGMENT | {"parent_generation_id": str(FILM), "segment_index": 1},
        ["CHILD, part 1 of FILM, video: original, individual_segment*"],
    ),
    (
        "individual_travel_segment",
        SEGMENT | {"parent_generation_id": str(FILM), "child_generation_id": str(CHILD), "make_primary_variant": False},
        ["CHILD, part 1 of FILM, video: original*, individual_segment"],
    ),
    (
        "individual_travel_segment",
        SEGMENT | {"parent_generation_id": str(FILM), "generation_name": "the first"},
        ["part 0 of FILM, video `the first`: original*"],
    ),
    (
        "individual_travel_segment",
        SEGMENT | {"parent_generation_id": str(FILM), "pair_shot_generation_id": str(SLOT), "segment_index": 1},
        ["part 1 of FILM at SLOT, video: original*"],
    ),
    # A film of one segment shows what its segment is.
    (
        "individual_travel_segment",
        SEGMENT | {"child_generation_id": str(TAKE)},
        [
            "SHORT, video: travel_stitch, individual_segment*",
            "TAKE, part 0 of SHORT, video: original, individual_segment*",
        ],
    ),
    (
        "individual_travel_segment",
        SEGMENT | {"parent_generation_id": str(SHORT), "make_primary_variant": False},
        [
            "SHORT, video: travel_stitch*, individual_segment",
            "TAKE, part 0 of SHORT, video: original*, individual_segment",
        ],
    ),
    ("individual_travel_segment", SEGMENT | IN_SHOT, ["video in SHOT: original*"]),
]


@pytest.fixture
def studio(world: Owner) -> Owner:
    """The world, with a variant of CHILD, and a film SHORT whose only segment is TAKE."""
    project = {"project_id": world.project_id, "type": "video"}
    insert(tables.generations, id=SHORT, **project)
    insert(tables.generations, id=TAKE, parent_generation_id=SHORT, child_order=0, **project)
    for generation, kind in ((CHILD, "original"), (SHORT, "travel_stitch"), (TAKE, "original")):
        values = {"generation_id": generation, "variant_type": kind, "is_primary": True, "location": "old"}
        insert(tables.generation_variants, **values)
    return world


def output(task: ClaimedTask) -> Output:
    media = {"width": 64, "height": 36, "bytes": 5, "sha256": f"of {task.id}"}
    return Output(f"{task.id}.file", {"media": media, "provenance": {"engine": "a test"}})


def work_off(execute: Callable[[ClaimedTask], Output] = output) -> Iterator[ClaimedTask]:
    """Host, plant and complete until nothing is left; every completion is sent twice."""
    while True:
        for orchestrator in queue.claim("api", "worker", hosted=True):
            plant_children(orchestrator)
        claimed = [task for pool in ("gpu", "api") for task in queue.claim(pool, "worker", limit=10)]
        if not claimed:
            return
        for task in claimed:
            made = execute(task)
            queue.complete(task.lease, made)
            queue.complete(task.lease, made)
            yield task


def lines() -> list[str]:
    """All generations, as people would say them."""
    found = sorted(rows(tables.generations), key=lambda row: (row.created_at, row.child_order or 0))
    shots = {row.generation_id for row in rows(tables.shot_generations) if row.id not in (SLOT, NEXT_SLOT)}
    variants = sorted(rows(tables.generation_variants), key=lambda row: row.created_at)
    films = {row.id: NAMES.get(row.id) or (f"`{row.name}`" if row.name else "the film") for row in found}
    told = []
    for row in found:
        text = row.type + (f" `{row.name}`" if row.name else "") + (" in SHOT" if row.id in shots else "")
        if row.based_on:
            text = text.replace(row.type, f"{row.type} based on {NAMES[row.based_on]}")
        if row.parent_generation_id:
            place = f" at {NAMES[row.pair_shot_generation_id]}" if row.pair_shot_generation_id else ""
            text = f"part {row.child_order} of {films[row.parent_generation_id]}{place}, {text}"
        own = [v.variant_type + "*" * v.is_primary for v in variants if v.generation_id == row.id]
        name = f"{NAMES[row.id]}, " if row.id in NAMES else ""
        told.append(f"{name}{text}: {', '.join(own)}")
    return told


def check_making() -> None:
    """Every variant says how it was made and what its file is; a generation says what its primary variant says."""
    tasks = {row.id: row for row in rows(tables.tasks)}
    variants = [row for row in rows(tables.generation_variants) if row.task_id]
    for row in variants:
        task = tasks[row.task_id]
        # A film is made by its orchestrator; what joins its parts knows nothing of prompts.
        maker = tasks[task.parent_task_id] if task.placement["as"] == "variant" and task.parent_task_id else task
        assert (row.location, row.media) == (task.output_location, task.result["media"])
        assert row.params == {
            "task_type": maker.task_type,
            "params": maker.params,
            "result": {"provenance": {"engine": "a test"}},
        }
    shown = {row.generation_id: (row.location, row.media, row.params) for row in variants if row.is_primary}
    for row in rows(tables.generations):
        if row.id in shown:
            assert (row.location, row.media, row.params) == shown[row.id]
    # One leaf, one result; in a film of one segment it stands twice.
    assert {row.task_id for row in variants} == {row.id for row in tasks.values() if not row.hosted}


def test_generations_are_the_declared_ones_when_a_task_of_any_type_completes(studio: Owner) -> None:
    before = {table: rows(table) for table in _WRITTEN}
    for task_type, request, expected in CASES:
        start = lines()
        create_task(task_type, request, project_id=studio.project_id)
        assert list(work_off())
        assert sorted(set(lines()) - set(start)) == sorted(expected), (task_type, request)
        assert len(lines()) - len(start) == sum(not line.startswith(tuple(NAMES.values())) for line in expected)
        check_making()
        _restore(before)


def test_part_keeps_its_generation_when_its_image_moves_on_the_timeline(studio: Owner) -> None:
    def travel(*slots: UUID, **film: str) -> dict[UUID, UUID]:
        pairs = {"image_urls": [URL] * 3, "pair_shot_generation_ids": [str(slot) for slot in slots]}
        create_task("travel_orchestrator", JOURNEY | pairs | film, project_id=studio.project_id)
        assert list(work_off())
        return {row.pair_shot_generation_id: row.id for row in rows(tables.generations) if row.pair_shot_generation_id}

    parts = travel(SLOT, NEXT_SLOT, generation_name="A walk")
    film = next(row.id for row in rows(tables.generations) if row.name == "A walk")
    assert travel(NEXT_SLOT, SLOT, parent_generation_id=str(film)) == parts
    assert sorted(line for line in lines() if "A walk" in line) == [
        "part 0 of `A walk` at NEXT_SLOT, video: original*, travel_segment",
        "part 1 of `A walk` at SLOT, video: original*, travel_segment",
        "video `A walk`: travel_stitch, travel_stitch*",
    ]


@pytest.mark.parametrize(
    ("task_type", "request_", "deleted", "left"),
    [
        ("single_image", PICTURE | IN_SHOT, (tables.shots, SHOT), ["image: original*"]),
        ("magic_edit", EDIT | OF_IMAGE, (tables.generations, IMAGE), ["image: original*"]),
        (
            "z_image_turbo_i2i",
            EDIT | OF_IMAGE | {"create_as_generation": True},
            (tables.generations, IMAGE),
            ["image: original*"],
        ),
        (
            "individual_travel_segment",
            SEGMENT | {"parent_generation_id": str(FILM), "pair_shot_generation_id": str(SLOT)},
            (tables.shot_generations, SLOT),
            ["part 0 of FILM, video: original*"],
        ),
        ("individual_travel_segment", SEGMENT | {"parent_generation_id": str(FILM)}, (tables.generations, FILM), []),
    ],
)
def test_result_is_kept_when_what_it_belongs_to_was_deleted_meanwhile(
    studio: Owner, task_type: str, request_: dict[str, Any], deleted: tuple[sa.Table, UUID], left: list[str]
) -> None:
    created = create_task(task_type, request_, project_id=studio.project_id)
    table, id_ = deleted
    with database.transaction() as connection:
        connection.execute(sa.delete(table).where(table.c.id == id_))
    start = lines()
    assert list(work_off())
    assert sorted(set(lines()) - set(start)) == left
    assert get_task(created.task_id).status == "Complete"


def test_film_and_its_parts_have_their_facts_when_a_travel_of_four_images_completes(
    studio: Owner, tmp_path: Path
) -> None:
    for i in range(4):
        save_png(tmp_path / f"{i}.png", np.full((64, 64, 3), 60 * i, np.uint8))
    images = [upload_media(tmp_path / f"{i}.png", project_id=studio.project_id) for i in range(4)]
    request = JOURNEY | {"image_urls": images, "segment_frames": 5, "resolution": "64x64", "generation_name": "A walk"}
    create_task("travel_orchestrator", request, project_id=studio.project_id)

    def render(task: ClaimedTask) -> Output:
        folder = tmp_path / str(task.id)
        folder.mkdir()
        execute = get_task_type(task.task_type).execute
        assert execute is not None
        made: Output = execute(Bench(task, folder, lambda _: None, lambda: False))
        return made

    assert len(list(work_off(render))) == 4
    made = [row for row in rows(tables.generations) if row.task_id]
    film, *parts = sorted(made, key=lambda row: -1 if row.child_order is None else row.child_order)
    assert [row.child_order for row in (film, *parts)] == [None, 0, 1, 2]
    assert {row.parent_generation_id for row in parts} == {film.id}
    (shown,) = [row for row in rows(tables.generation_variants) if row.generation_id == film.id]
    assert (shown.variant_type, shown.is_primary, shown.location) == ("travel_stitch", True, film.location)
    for row, frames in zip((film, *parts), (13, 5, 5, 5), strict=True):
        path = tmp_path / f"{row.id}{Path(row.location).suffix}"
        storage.fetch(row.location, path)
        facts = row.media
        assert (facts["width"], facts["height"], facts["frames"], facts["fps"]) == (64, 64, frames, 16)
        assert facts["duration"] == pytest.approx(frames / 16, abs=0.01)
        assert facts["bytes"] == path.stat().st_size
        assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert film.params["params"]["orchestrator_details"]["image_urls"] == images


def test_every_type_is_among_the_cases_when_a_type_is_added() -> None:
    planned = {"travel_segment", "travel_stitch", "join_clips_segment", "join_final_stitch"}
    assert {case[0] for case in CASES} | planned == set(task_types())


# In the order of their references.
_WRITTEN = (tables.generations, tables.generation_variants, tables.shot_generations)


def _restore(before: dict[sa.Table, list[Any]]) -> None:
    with database.transaction() as connection:
        connection.execute(sa.delete(tables.tasks))
        connection.execute(sa.delete(tables.generations))
        for table, kept in before.items():
            connection.execute(sa.insert(table), [dict(row._mapping) for row in kept])
