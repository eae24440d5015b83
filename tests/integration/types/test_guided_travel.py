"""A structure video steers a travel, and pictures inside the gap a bridge: from create to complete, by a tiny VACE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db import tables
from tasks_lib import create_task, get_task, list_tasks, queue, upload_media
from tasks_lib.creation import plant_children
from tasks_lib.engines.base import UNGUIDED, Frame
from tasks_lib.engines.bench import Bench
from tasks_lib.engines.cache import warm_models
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.images import save_png
from tasks_lib.media.video import probe, read_frames, write_video
from tasks_lib.planning.joins import Join
from tasks_lib.queue import ClaimedTask
from tasks_lib.settings import get_settings
from tasks_lib.storage import fetch
from tasks_lib.types.registry import get_task_type
from tests.conftest import Owner
from tests.integration.types.test_helpers import insert
from tests.scenes import affine, photograph

SIDE = 64
NAMES = ("guided", "free")
LEVELS, WALK = "levels", "walk"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A VACE and a depth model, of a few kilobytes each; and no more threads than that is worth."""
    import torch

    from tests.unit.engines import tiny

    folder = tmp_path_factory.mktemp("models")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {
        "vace": str(tiny.build("WanVACEPipeline", folder / "vace")),
        "depth": str(tiny.build_depth(folder / "depth")),
    }
    torch.set_num_threads(threads)
    warm_models().clear()


@pytest.fixture
def machine(owner: Owner, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Owner:
    row = {"pipeline": "WanVACEPipeline", "path": weights["vace"], "dtype": "float32", "steps": 2}
    monkeypatch.setenv("UNITASK_MODELS", json.dumps({"vace": row, "deep": row | {"depth": weights["depth"]}}))
    get_settings.cache_clear()
    return owner


@pytest.fixture
def media(machine: Owner, tmp_path: Path) -> dict[str, str]:
    """Three images, a guide whose frame i has the level 4 i, and one that shows a camera in motion."""
    at = affine(photograph("coffee.png"), 2, SIDE)
    made = {}
    for i in range(3):
        path = tmp_path / f"{i}.png"
        save_png(path, at(i / 2))
        made[str(i)] = upload_media(path, project_id=machine.project_id)
    levels = (np.full((SIDE, SIDE + 16, 3), 4 * i, np.uint8) for i in range(41))
    for name, frames in ((LEVELS, levels), (WALK, (at(i / 29) for i in range(30)))):
        path = tmp_path / f"{name}.mp4"
        write_video(path, frames, 32, lossless=True)
        made[name] = upload_media(path, project_id=machine.project_id)
    return made


def work(task: ClaimedTask, folder: Path) -> Path:
    """Execute a claimed task here, as the engine process does, and answer its folder."""
    folder.mkdir(parents=True)
    execute = get_task_type(task.task_type).execute
    assert execute is not None
    queue.complete(task.lease, execute(Bench(task, folder, lambda _: None, lambda: False)))
    return folder


def travel(owner: Owner, media: dict[str, str], folder: Path, **given: Any) -> tuple[Any, list[ClaimedTask], Path]:
    """A travel through the three images by the model: its row when it is done, its segments, and the film."""
    params = {
        "image_urls": [media[str(i)] for i in range(3)],
        "base_prompts": ["a walk"],
        "segment_frames": 9,
        "frame_overlap": 4,
        "independent_segments": False,
        "resolution": f"{SIDE}x{SIDE}",
        "model_name": "vace",
        "steps": 2,
        "seed": 3,
    }
    created = create_task("travel_orchestrator", params | given, project_id=owner.project_id)
    (host,) = queue.claim("api", "host", hosted=True)
    plant_children(host)
    done: list[ClaimedTask] = []
    while claimed := queue.claim("gpu", "worker", limit=4):
        for task in claimed:
            work(task, folder / str(task.child_key))
        done += claimed
    row = get_task(created.task_id)
    assert (row.status, row.error_message) == ("Complete", None)
    assert row.output_location is not None
    fetch(row.output_location, folder / "film.mp4")
    return row, [task for task in done if task.task_type == "travel_segment"], folder / "film.mp4"


def segment(owner: Owner, media: dict[str, str], images: tuple[int, int], **given: Any) -> ClaimedTask:
    """One segment of 9 frames between two of the images, claimed."""
    params = {
        "segment_index": 0,
        "start_image_url": media[str(images[0])],
        "end_image_url": media[str(images[1])],
        "num_frames": 9,
        "resolution": f"{SIDE}x{SIDE}",
        "model_name": "vace",
        "steps": 2,
    }
    create_task("individual_travel_segment", params | given, project_id=owner.project_id)
    (task,) = queue.claim("gpu", "worker")
    return task


def asked(media: dict[str, str], **given: Any) -> dict[str, Any]:
    """A guide as one video, or with a `target` as an object."""
    if "target" in given:
        return {"structure_guidance": given | {"videos": [{"path": media[WALK]}]}}
    return given | {"structure_video_path": media[WALK]}


def shown(folder: Path) -> list[Frame]:
    return list(read_frames(folder / "guide.mkv"))


def test_segments_follow_their_parts_of_the_guide_when_a_travel_has_a_structure_video(
    machine: Owner, media: dict[str, str], tmp_path: Path
) -> None:
    row, segments, film = travel(machine, media, tmp_path / NAMES[0], structure_video_path=media[WALK])
    _, _, free = travel(machine, media, tmp_path / NAMES[1])
    assert [task.params["frames"] for task in segments] == [9, 13]
    first, second = (shown(tmp_path / NAMES[0] / str(task.child_key)) for task in segments)
    assert (len(first), len(second)) == (9, 13), "of exactly the segment's frames"
    assert all(np.array_equal(a, b) for a, b in zip(first[5:], second[:4], strict=True)), "what both show, both see"
    assert np.mean([frame.std() for frame in first]) > 5, "it moves, and that is in colours"
    results = [get_task(task.id).result or {} for task in segments]
    assert [result["guided_frames"] for result in results] == [9, 13]
    assert not any("structure" in note for result in results for note in result["provenance"]["notes"])
    assert probe(film).frames == probe(free).frames == row.params["timeline"]["total_frames"] == 18
    steered, unsteered = (list(read_frames(tmp_path / name / "segment_000" / "segment.mkv")) for name in NAMES)
    same = [np.array_equal(a, b) for a, b in zip(steered, unsteered, strict=True)]
    assert same == [True, *[False] * 7, True], "the images stay, and all between them is steered"


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        # Film frame k of 18 shows frame k 40/17 of a guide that is adjusted.
        ({"independent_segments": False}, [(0, 9), (5, 18)]),
        ({"independent_segments": True, "frame_overlap": 0}, [(0, 9), (8, 17)]),
    ],
)
def test_guide_is_stretched_over_the_film_and_not_over_its_segments(
    machine: Owner, media: dict[str, str], tmp_path: Path, mode: dict[str, Any], parts: list[tuple[int, int]]
) -> None:
    guidance = {"target": "vace", "videos": [{"path": media[LEVELS]}], "preprocessing": "none"}
    row, segments, _ = travel(machine, media, tmp_path / "film", structure_guidance=guidance, **mode)
    film = row.params["timeline"]["total_frames"]
    for task, (start, end) in zip(segments, parts, strict=True):
        levels = [round(float(frame.mean())) for frame in shown(tmp_path / "film" / str(task.child_key))]
        assert levels == [4 * int(k * 40 / (film - 1) + 0.5) for k in range(start, end)]


def test_each_guide_has_its_range_when_there_are_several(machine: Owner, media: dict[str, str], tmp_path: Path) -> None:
    first = {"path": media[LEVELS], "start_frame": 2, "end_frame": 6, "treatment": "clip"}
    second = {"path": media[LEVELS], "start_frame": 8, "treatment": "clip", "source_start_frame": 30}
    guidance = {"target": "vace", "videos": [second, first], "preprocessing": "none", "strength": 0.5}
    row, (one, other), _ = travel(machine, media, tmp_path / "film", structure_guidance=guidance)
    u, levels = UNGUIDED, [120, 128, 136, 144, 152, 160]
    seen = [
        [round(float(frame.mean())) for frame in shown(tmp_path / "film" / str(task.child_key))]
        for task in (one, other)
    ]
    assert seen == [[u, u, 0, 8, 16, 24, u, u, 120], [24, u, u, *levels, u, u, u, u]]
    assert [(get_task(task.id).result or {})["guided_frames"] for task in (one, other)] == [5, 7]
    assert row.status == "Complete"


def test_segment_made_again_follows_the_same_part_when_its_place_in_the_film_is_given(
    machine: Owner, media: dict[str, str], tmp_path: Path
) -> None:
    guide = {"structure_video_path": media[WALK], "structure_video_type": "canny"}
    _, (_, second), _ = travel(machine, media, tmp_path / "film", independent_segments=True, frame_overlap=0, **guide)
    assert second.placement is not None
    film = {"parent_generation_id": second.placement["parent_generation_id"]}
    again = segment(machine, media, segment_index=1, images=(1, 2), film_start=8, film_frames=17, **film, **guide)
    folder = work(again, tmp_path / "again")
    assert np.array_equal(shown(folder), shown(tmp_path / "film" / str(second.child_key)))
    assert {int(level) for frame in shown(folder) for level in np.unique(frame)} == {0, 255}


def test_guide_acts_as_strongly_as_it_is_asked_to(machine: Owner, media: dict[str, str], tmp_path: Path) -> None:
    film = {"parent_generation_id": str(insert(tables.generations, project_id=machine.project_id, type="video"))}
    asked_for: dict[str, dict[str, Any]] = {
        f"{kind} {strength}": {
            "structure_video_path": media[WALK],
            "structure_video_type": kind,
            "structure_video_motion_strength": strength,
        }
        for kind in ("canny", "flow")
        for strength in (0.0, 0.3, 1.0)
    }
    made: dict[str, list[Frame]] = {}
    guided: dict[str, int] = {}
    for name, guide in {"free": {}, **asked_for}.items():
        task = segment(machine, media, (0, 1), **film, **guide)
        made[name] = list(read_frames(work(task, tmp_path / name) / "segment.mp4"))
        guided[name] = (get_task(task.id).result or {}).get("guided_frames", -1)

    assert guided == {"free": -1, "canny 0.0": 0, **dict.fromkeys(list(asked_for)[1:], 9)}
    assert np.array_equal(made["canny 0.0"], made["free"]), "it is as if there were none"
    assert not np.array_equal(made["canny 0.3"], made["canny 1.0"])
    assert all((frame == 255).all() for frame in shown(tmp_path / "flow 0.0")), "everything is to stand still"
    pale, strong = (np.mean(shown(tmp_path / f"flow {strength}")) for strength in (0.3, 1.0))
    assert 255 - pale == pytest.approx(0.3 * (255 - strong), rel=0.05)


def test_depth_guides_when_the_model_names_one_that_reads_it(
    machine: Owner, media: dict[str, str], tmp_path: Path
) -> None:
    guide = {"structure_video_path": media[WALK], "structure_video_type": "depth"}
    _, segments, _ = travel(machine, media, tmp_path / "film", model_name="deep", **guide)
    for task in segments:
        pictures = shown(tmp_path / "film" / str(task.child_key))
        assert len(pictures) == task.params["frames"]
        assert all(np.array_equal(picture[..., 0], picture[..., 2]) for picture in pictures)
        assert all((picture.min(), picture.max()) == (0, 255) for picture in pictures)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"structure_video_type": "depth"}, "`structure_video_type` is `depth`: `depth` of the model"),
        ({"target": "uni3c"}, "`structure_guidance.target`: no pipeline here takes a guide by `uni3c`"),
    ],
)
def test_worker_says_why_when_the_model_cannot_follow_the_guide(
    machine: Owner, media: dict[str, str], tmp_path: Path, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(EngineError, match=problem):
        travel(machine, media, tmp_path / "film", **asked(media, **given))


def test_nothing_is_stored_when_no_segment_could_follow_its_guide(
    machine: Owner, media: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where creators and workers share a machine, it is known."""
    monkeypatch.setenv("UNITASK_DATABASE_URL", "")
    get_settings.cache_clear()
    with pytest.raises(TaskValidationError, match="`structure_video_type` is `depth`") as refused:
        travel(machine, media, tmp_path, structure_video_path=media[WALK], structure_video_type="depth")
    clips = {"clips": [{"url": media[WALK]}] * 2, "keep_bridging_images": True}
    assert refused.value.field == "structure_video_type"
    with pytest.raises(TaskValidationError, match="`keep_bridging_images` needs a model"):
        create_task("join_clips_orchestrator", clips, project_id=machine.project_id)
    assert list_tasks() == []


@pytest.mark.parametrize(
    ("given", "named", "why"),
    [
        ({}, "structure_video_path", "that takes a model that is a WanVACEPipeline"),
        ({"target": "uni3c"}, "structure_guidance", "no pipeline here takes a guide by `uni3c`"),
    ],
)
def test_result_says_so_when_the_engine_without_weights_is_given_a_guide(
    machine: Owner, media: dict[str, str], tmp_path: Path, given: dict[str, Any], named: str, why: str
) -> None:
    _, segments, _ = travel(machine, media, tmp_path / "film", model_name=None, **asked(media, **given))
    for task in segments:
        notes = (get_task(task.id).result or {})["provenance"]["notes"]
        assert f"`{named}` was not followed: {why}" in notes


@pytest.mark.parametrize("gap", [9, 2])
def test_bridge_shows_the_ends_of_its_clips_when_they_are_kept(
    machine: Owner, media: dict[str, str], tmp_path: Path, gap: int
) -> None:
    clips = [{"url": media[WALK]}, {"url": media[LEVELS]}]
    settings = {"context_frame_count": 4, "gap_frame_count": gap, "replace_mode": True, "keep_bridging_images": True}
    create_task(
        "join_clips_orchestrator",
        {"clips": clips, "use_input_video_fps": True, "model_name": "vace", "steps": 2, "seed": 1} | settings,
        project_id=machine.project_id,
    )
    (host,) = queue.claim("api", "host", hosted=True)
    plant_children(host)
    (task,) = queue.claim("gpu", "worker")
    folder = work(task, tmp_path / "bridge")
    result = get_task(task.id).result or {}
    notes = [note for note in result["provenance"]["notes"] if "keep_bridging_images" in note]
    bridge = list(read_frames(folder / "bridge.mkv"))
    assert len(bridge) == Join.model_validate(result["join"]).frames
    if gap == 2:
        assert notes == ["`keep_bridging_images` was not followed: a gap of 1 frames has no room for them"]
        return
    last, first = affine(photograph("coffee.png"), 2, SIDE)(1), np.zeros((SIDE, SIDE, 3), np.uint8)
    assert notes == []
    assert np.array_equal(bridge[4 + 3], last), "the last frame of the clip before, at a third"
    assert np.array_equal(bridge[4 + 6], first), "the first frame of the clip after, at two thirds"
    assert not np.array_equal(bridge[4 + 4], last)
