"""Types that need a model, from create to complete: a real worker loop, a real engine process, tiny real weights."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import psutil
import pytest
from PIL import Image

from db import tables
from tasks_lib import create_tasks, database, get_task, storage, upload_media
from tasks_lib.engines.process import EngineProcess
from tasks_lib.media.images import read_picture
from tasks_lib.media.quality import psnr
from tasks_lib.media.video import probe, read_frames, write_video
from tasks_lib.queue import ClaimedTask, Output
from tasks_lib.queue.listening import Bell
from tasks_lib.queue.worker import Report, Worker
from tasks_lib.settings import get_settings
from tasks_lib.types.table import sync
from tests.conftest import Owner
from tests.integration.types.test_helpers import insert
from tests.scenes import photograph

SIZE = 64
LONG = bool(os.environ.get("UNITASK_TEST_LONG"))
PIPELINES = {
    "vace": "WanVACEPipeline",
    "i2v": "WanImageToVideoPipeline",
    "wan": "WanPipeline",
    "qwen": "QwenImagePipeline",
    "qwen-edit": "QwenImageEditPlusPipeline",
    "z": "ZImagePipeline",
    "sd": "StableDiffusionUpscalePipeline",
    "animate": "WanAnimatePipeline",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting `UNITASK_MODELS` of a machine that has them all."""
    # It imports diffusers, which takes seconds; every test process reads this file.
    from tests.unit.engines import tiny, tiny_rife

    folder = tmp_path_factory.mktemp("models")
    pose = str(tiny.build_pose(folder / "pose"))
    rows = {
        alias: {
            "pipeline": pipeline,
            "path": str(tiny.build(pipeline, folder / alias)),
            "dtype": "float32",
            "steps": 2,
            "edit_pixels": 64 * 64,
            "pose": pose,
        }
        for alias, pipeline in PIPELINES.items()
    }
    rife = {"pipeline": "RIFE", "path": str(tiny_rife.save(folder / "flownet.pkl"))}
    return json.dumps(rows | {"z2": rows["z"], "rife": rife})


@pytest.fixture
def machine(owner: Owner, table: str, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """Its settings: every type that a model can make belongs to our own engines."""
    served = {"qwen_image": "qwen", "qwen_image_2512": "qwen", "qwen_image_style": "qwen-edit"}
    served |= {"magic_edit": "qwen-edit", "qwen_image_edit": "qwen-edit", "annotated_image_edit": "qwen-edit"}
    served |= {"z_image_turbo": "z", "z_image_turbo_i2i": "z", "image_inpaint": "z", "wan_2_2_i2v": "i2v"}
    served |= {"animate_character": "animate"}
    served |= {"single_image": "z", "wan_2_2_t2i": "wan"}
    monkeypatch.setenv("UNITASK_MODELS", table)
    monkeypatch.setenv("UNITASK_PROVIDERS", json.dumps({name: f"engine:{alias}" for name, alias in served.items()}))
    monkeypatch.setenv("UNITASK_POLL_SECONDS", "0.2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Threads cost more than they give for matrices of a few numbers.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    get_settings.cache_clear()
    sync(database.get_engine())
    return owner


@dataclass
class Seen:
    """What one worker did: the models that were loaded after each task, and the size of its engine process."""

    models: list[tuple[str, ...]] = field(default_factory=list)
    loads: int = 0
    sizes: list[int] = field(default_factory=list)


def work_off(ids: list[UUID], seconds: float = 120) -> Seen:
    """One worker with one engine process works until all of these have ended."""
    seen = Seen()

    async def main() -> None:
        engine = EngineProcess()

        async def execute(task: ClaimedTask, report: Report) -> Output:
            before = engine.models
            output = await engine.execute(task, report)
            seen.loads += len(set(engine.models) - set(before))
            seen.models.append(engine.models)
            if engine.pid is not None:
                seen.sizes.append(psutil.Process(engine.pid).memory_info().rss)
            return output

        worker = Worker("gpu", f"gpu-{os.urandom(2).hex()}", 1, execute, Bell(), models=lambda: engine.models)
        working = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(seconds):
                while not await asyncio.to_thread(lambda: all(get_task(id_).is_final for id_ in ids)):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        finally:
            worker.drain("the test is over")
            await working
            engine.kill()

    asyncio.run(main())
    return seen


def uploads(owner: Owner, folder: Path) -> dict[str, str]:
    rng = np.random.default_rng(7)
    named = {}
    for name in ("a", "b", "mask"):
        path = folder / f"{name}.png"
        Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
        named[name] = upload_media(path, project_id=owner.project_id)
    for name, left in (("here", 100), ("there", 104)):
        path = folder / f"{name}.png"
        Image.fromarray(photograph("coffee.png")[100 : 100 + 3 * SIZE, left : left + 3 * SIZE]).save(path)
        named[name] = upload_media(path, project_id=owner.project_id)
    clip = folder / "clip.mp4"
    write_video(clip, (rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(3)), 8, lossless=False)
    return named | {"clip": upload_media(clip, project_id=owner.project_id)}


def fetched(task_id: UUID, folder: Path) -> Path:
    location = get_task(task_id).output_location
    assert location is not None
    path = folder / f"{task_id}{Path(location).suffix}"
    storage.fetch(location, path)
    return path


def same(first: Path, second: Path) -> bool:
    """Whether two outputs are one. x264 itself is not bit for bit the same under load, so films may differ in noise."""
    if first.suffix != ".mp4":
        return first.read_bytes() == second.read_bytes()
    pairs = zip(read_frames(first), read_frames(second), strict=True)
    return all(psnr(a, b) > 35 for a, b in pairs)


def requests(media: dict[str, str], film: str) -> dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]]:
    """By name: a type, its request, and the width, height and frames of what must come out (1 for a picture)."""
    words = {"prompt": "a house", "negative_prompt": "rain", "seed": 5}
    image = {"image_url": media["a"], "seed": 5}
    drawn = {**words, "steps": 2, "resolution": f"{SIZE}x{SIZE + 16}"}
    square, upright = (SIZE, SIZE, 1), (SIZE, SIZE + 16, 1)
    segment = {
        "segment_index": 0,
        "parent_generation_id": film,
        "start_image_url": media["a"],
        "end_image_url": media["b"],
        "num_frames": 5,
        "base_prompt": "a walk",
        "resolution": f"{SIZE}x{SIZE}",
        "steps": 2,
        "seed": 5,
    }
    turbo = {"segment_frames": 81, "frame_overlap": 0, "resolution": f"{SIZE}x{SIZE}", "seed": 5, "steps": 2}
    return {
        "single_image": ("single_image", drawn, upright),
        "wan_2_2_t2i": ("wan_2_2_t2i", drawn, upright),
        "qwen_image": ("qwen_image", {**drawn, "hires_scale": 1.5, "hires_denoise": 0.7}, (SIZE * 3 // 2, 120, 1)),
        "qwen_image_2512": ("qwen_image_2512", drawn, upright),
        "qwen_image_style": (
            "qwen_image_style",
            {**drawn, "style_reference_image": media["b"], "style_reference_strength": 0.5},
            upright,
        ),
        "z_image_turbo": ("z_image_turbo", drawn, upright),
        "z_image_turbo_i2i": ("z_image_turbo_i2i", {**image, "prompt": "a house", "steps": 2}, (1024, 1024, 1)),
        "magic_edit": ("magic_edit", {**image, "prompt": "a house", "resolution": f"{SIZE}x{SIZE}"}, square),
        "qwen_image_edit": ("qwen_image_edit", {**image, "prompt": "a hat", "resolution": f"{SIZE}x{SIZE}"}, square),
        "annotated": ("annotated_image_edit", {**image, "prompt": "a hat", "mask_url": media["mask"]}, square),
        "image_inpaint": ("image_inpaint", {**image, "prompt": "a hat", "mask_url": media["mask"]}, square),
        "image_upscale": ("image_upscale", {"image_url": media["a"], "model_name": "sd"}, (2 * SIZE, 2 * SIZE, 1)),
        "vace": ("individual_travel_segment", {**segment, "model_name": "vace"}, (SIZE, SIZE, 5)),
        "wan_2_2_i2v": (
            "wan_2_2_i2v",
            {"image_urls": [media["a"], media["b"]], "base_prompts": ["a walk"], "turbo_mode": True, **turbo},
            (SIZE, SIZE, 81),
        ),
        "animate_character": (
            "animate_character",
            {"character_image_url": media["a"], "motion_video_url": media["clip"], "resolution": "480p", "seed": 5},
            (480, 480, 3),
        ),
        "i2v": ("individual_travel_segment", {**segment, "model_name": "i2v"}, (SIZE, SIZE, 5)),
        "rife": (
            "individual_travel_segment",
            {**segment, "model_name": "rife", "start_image_url": media["here"], "end_image_url": media["there"]},
            (SIZE, SIZE, 5),
        ),
    }


def test_every_type_is_made_when_a_model_is_configured(machine: Owner, tmp_path: Path) -> None:
    media = uploads(machine, tmp_path)
    asked = requests(media, str(insert(tables.generations, project_id=machine.project_id, type="video")))
    rows = {
        name: {"task_type": task_type, "params": params, "project_id": machine.project_id}
        for name, (task_type, params, _) in asked.items()
    }
    # Twice, with the same seeds.
    created = create_tasks([*rows.values(), *rows.values()])
    ids, ids_again = (
        dict(zip(asked, (one.task_id for one in half), strict=True))
        for half in (created[: len(rows)], created[len(rows) :])
    )
    (missing,) = create_tasks([{**rows["single_image"], "params": {"prompt": "a house", "model_name": "gone"}}])
    work_off([one.task_id for one in (*created, missing)], 240)
    for name, (_, _, size) in asked.items():
        first = get_task(ids[name])
        assert (first.status, first.error_message) == ("Complete", None), name
        path = fetched(first.id, tmp_path)
        if path.suffix == ".mp4":
            facts = probe(path)
            assert (facts.width, facts.height, facts.frames) == size, name
        else:
            assert read_picture(path).pixels.shape == (size[1], size[0], 3), name
        assert same(path, fetched(ids_again[name], tmp_path)), name
        assert first.result is not None
        made = first.result["provenance"]
        assert made["engine"] == ("rife" if name == "rife" else "diffusers"), name
        assert len(made["model"]["digest"]) == 64, name
        assert made["seed"] == (0 if name == "image_upscale" else 5), name
        assert {made["engine"], "torch"} <= {"rife", *made["versions"]}, name
    styled, inpainted, turbo = (
        get_task(ids[name]).result for name in ("qwen_image_style", "image_inpaint", "wan_2_2_i2v")
    )
    assert turbo is not None
    assert [segment["method"] for segment in turbo["segments"]] == ["first_last_frame"], "each pair says its own"
    failed = get_task(missing.task_id)
    assert (failed.status, failed.attempt, failed.error_kind) == ("Failed", 1, "engine")
    assert "no model `gone` in UNITASK_MODELS; known are: `vace`" in (failed.error_message or "")
    assert styled is not None
    assert any("`style_reference_strength` was not followed" in note for note in styled["notes"])
    assert inpainted is not None
    assert inpainted["provenance"]["method"] == "inpaint"


def pictures_of(owner: Owner, aliases: list[str]) -> list[UUID]:
    """A picture by each of these models, in this order."""
    params = {"prompt": "a house", "steps": 1, "resolution": f"{SIZE}x{SIZE}"}
    return [
        created.task_id
        for created in create_tasks(
            [
                {
                    "task_type": "single_image",
                    "params": {**params, "seed": i, "model_name": alias},
                    "project_id": owner.project_id,
                }
                for i, alias in enumerate(aliases)
            ]
        )
    ]


def test_models_change_seldom_when_their_tasks_are_interleaved_and_one_fits(
    machine: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First tasks of one model, then of two in turns: without affinity each of these would load its own again."""
    monkeypatch.setenv("UNITASK_MODEL_BYTES", "1")
    get_settings.cache_clear()
    count = 100 if LONG else 12
    ids = pictures_of(machine, ["z"] * count + ["z2", "z"] * (count // 2))
    seen = work_off(ids, 1200)
    assert {get_task(id_).status for id_ in ids} == {"Complete"}
    assert seen.models[:count] == [("z",)] * count, "the first of them loaded it for all"
    print(
        f"{count} tasks of one model: 1 load; {count} more of two in turns, one of which fits: {seen.loads - 1} loads"
    )
    assert seen.loads <= 2 + count // 16
    assert max(len(models) for models in seen.models) == 1


@pytest.mark.skipif(not LONG, reason="takes a minute; `make test-long` runs it")
def test_memory_is_what_it_was_when_two_hundred_tasks_are_done(machine: Owner) -> None:
    seen = work_off(pictures_of(machine, ["z"] * 199), 1200)
    print(f"engine process: {seen.sizes[9] >> 20} MiB after 10 tasks, {seen.sizes[-1] >> 20} MiB after 199")
    assert seen.sizes[-1] < 1.05 * seen.sizes[9]
