"""Whatever a request sets by name changes what is made or where it goes, or the result has a note that names it.

The fields are those of all declared types: a new one fails here until somebody follows it or says why not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from db import tables
from tasks_lib import create_task, database, get_task, list_tasks, queue, storage, upload_media
from tasks_lib.client import Task
from tasks_lib.creation import plant_children
from tasks_lib.engines import bench
from tasks_lib.engines.base import Context, EngineResult, Provenance, Request
from tasks_lib.engines.bench import Bench, execute
from tasks_lib.engines.embedded import EmbeddedEngine
from tasks_lib.media.video import write_video
from tasks_lib.models import WEIGHTLESS
from tasks_lib.params.asked import asked_of
from tasks_lib.providers.requests import BUILDS, works
from tasks_lib.settings import get_settings
from tasks_lib.types import table
from tasks_lib.types.base import Preparation
from tasks_lib.types.registry import task_types
from tests.conftest import Owner
from tests.integration.types.test_helpers import insert
from tests.scenes import photograph
from tests.unit.providers.test_requests import IMAGE, PARAMS

OWN_ENGINE = sorted(
    declared.name
    for declared in task_types().values()
    if declared.public and (declared.plan is not None or declared.engine_kind in WEIGHTLESS)
)
SERVED = [(task_type, provider) for task_type, able in BUILDS.items() for provider in able]
PHASES = {
    "num_phases": 2,
    "steps_per_phase": [2, 2],
    "phases": [{"phase": 1, "guidance_scale": 3.0}, {"phase": 2, "guidance_scale": 1.0}],
}
SAME_AS_WITHOUT = {"use_input_video_resolution", "turbo_mode", "keep_bridging_images"}
"""The size of the first clip is what a join without a size has; each journey has one `turbo_mode`; and bridging images
are refused where no model shows them."""

NOT_TOGETHER = {"resolution", "use_input_video_fps", "fps", "structure_guidance", "random_seed"}
"""What excludes other fields of the same request, or has no effect beside them."""


def samples(clip: str, made: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By field: a request for it, where a schema alone gives none, with what must be beside it."""
    guide = {"target": "vace", "videos": [{"path": clip}]}
    reference = {"style_reference_image": IMAGE}
    return {
        "resolution": {"resolution": "64x96"},
        "custom_aspect_ratio": {"custom_aspect_ratio": "1:1", "resolution_mode": "custom"},
        "resolution_mode": {"resolution_mode": "custom", "custom_aspect_ratio": "21:9"},
        "loras": {"loras": [{"path": "https://example.com/a.safetensors"}]},
        "style_reference_image": reference,
        "colour_match": {"colour_match": True},
        "phase_config": {"phase_config": PHASES},
        "structure_guidance": {"structure_guidance": guide},
        **{
            name: {name: value, "structure_video_path": clip}
            for name, value in (
                ("structure_video_path", clip),
                ("structure_video_treatment", "clip"),
                ("structure_video_motion_strength", 0.5),
                ("structure_video_type", "canny"),
            )
        },
        "pair_phase_configs": {"pair_phase_configs": [PHASES, None]},
        "pair_loras": {"pair_loras": [[{"path": "https://example.com/b.safetensors"}], None]},
        "pair_motion_settings": {"pair_motion_settings": [{"amount_of_motion": 0.1}, None]},
        "frame_overlap": {"frame_overlap": 4},
        "independent_segments": {"independent_segments": False, "frame_overlap": 4},
        "image_generation_ids": {"image_generation_ids": [str(made["generation"])] * 3},
        "pair_shot_generation_ids": {"pair_shot_generation_ids": made["places"]},
        "pair_shot_generation_id": {"pair_shot_generation_id": made["places"][0]},
        **{
            name: {name: str(made["generation"])}
            for name in (
                *("parent_generation_id", "generation_id", "based_on"),
                *("start_image_generation_id", "end_image_generation_id"),
            )
        },
        "child_generation_id": {"child_generation_id": str(made["child"]), "parent_generation_id": str(made["film"])},
        "create_as_generation": {"create_as_generation": True, "based_on": str(made["generation"])},
        "source_variant_id": {"source_variant_id": str(made["variant"])},
        "shot_id": {"shot_id": str(made["shot"])},
        "per_join_settings": {"per_join_settings": [{"gap_frame_count": 9}]},
        "audio_url": {"audio_url": made["sound"]},
        "vid2vid_init_strength": {"vid2vid_init_strength": 1.0},
        "model_name": {"model_name": "mine"},
        "hires_fix": {"hires_fix": {"hires_scale": 2.0}},
        "hires_steps": {"hires_steps": 3, "hires_scale": 2.0},
        "hires_denoise": {"hires_denoise": 0.3, "hires_scale": 2.0},
        **{
            name: {name: value, **reference}
            for name, value in (
                ("subject_reference_image", "https://example.com/1.jpg"),
                ("reference_mode", "scene"),
                ("style_reference_strength", 0.2),
                ("subject_strength", 0.2),
                ("subject_description", "a cat"),
                ("in_this_scene", True),
                ("in_this_scene_strength", 0.3),
            )
        },
        "num_frames": {"num_frames": 13},
        "segment_frames": {"segment_frames": 13},
        "context_frame_count": {"context_frame_count": 4},
        "gap_frame_count": {"gap_frame_count": 9},
        "tool_type": {"tool_type": "travel-between-images"},
        "max_wait_seconds": {"max_wait_seconds": 20},
    }


def sample(name: str, schema: Mapping[str, Any]) -> Any:
    """Another value than the default that a field's schema allows."""
    forms = [form for form in schema.get("anyOf", [schema]) if form.get("type") != "null"]
    form, default = forms[0], schema.get("default")
    match form.get("type"):
        case _ if "enum" in form:
            return next(value for value in reversed(form["enum"]) if value != default)
        case _ if "const" in form:
            return form["const"]
        case "boolean":
            return not default
        case "integer" | "number":
            low, high = form.get("minimum", 0), form.get("maximum", 10)
            some = low + (high - low) / 4 if form["type"] == "number" else low + 3
            return some if some != default else high
        case "string":
            return "something else"
        case "array" if form["items"].get("type") == "string":
            return ["something else"]
    return pytest.fail(f"`{name}` has a form that no sample is known of; add one to `samples`")


def fields(task_type: str, base: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By field of a type that its base request leaves out: what is set to ask for it."""
    declared = task_types()[task_type].params
    schema = declared.model_json_schema()
    found = {}
    for name in declared.model_fields:
        properties = schema["properties"][name]
        if name in base or name in SAME_AS_WITHOUT or len(properties.get("enum", (1, 2))) == 1 or "const" in properties:
            continue
        found[name] = known.get(name) or {name: sample(name, properties)}
    return found


def named(notes: list[str], name: str) -> bool:
    return any(note.startswith((f"`{name}`", f"`{name}.")) for note in notes)


def followed(request: Request) -> str:
    """The fields of a request that the engine follows, with the content of files."""
    ignored = EmbeddedEngine().ignores(request)
    return str({name: _content(value) for name, value in vars(request).items() if name not in ignored})


def _content(value: Any) -> Any:
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).hexdigest()
    return (_content(value.video), value.frames) if isinstance(value, Context) else value


class Plain(EmbeddedEngine):
    """The embedded engine's word on what it follows, with frames of one colour in the place of its pixels."""

    asked: ClassVar[list[str]] = []

    def run(self, request: Request, **_: Any) -> EngineResult:
        self.asked.append(followed(request))
        sides = (("height", 64), ("width", 96), ("frames", 1))
        height, width, count = (getattr(request, name, otherwise) for name, otherwise in sides)
        frame = np.full((height, width, 3), (200, 100, 50), np.uint8)
        return EngineResult(iter([frame] * count), Provenance("embedded", "plain", request.seed))


@pytest.fixture
def media(owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Three framings of one scene, two clips, one of them with sound, a mask; and stored things to refer to."""
    served = {name: "engine" for name in OWN_ENGINE if name in BUILDS}
    monkeypatch.setenv("UNITASK_PROVIDERS", str(served).replace("'", '"'))
    monkeypatch.setattr(bench, "engine_for", lambda *_: Plain())
    get_settings.cache_clear()
    table.sync(database.get_engine())

    def kept(name: str) -> str:
        return upload_media(tmp_path / name, project_id=owner.project_id)

    for i in range(3):
        Image.fromarray(photograph("coffee.png")[100:164, 100 + 4 * i : 196 + 4 * i]).save(tmp_path / f"{i}.png")
    Image.new("L", (96, 64), 0).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        mask.paste(255, (40, 24, 56, 40))
        mask.save(tmp_path / "mask.png")
    for name, top in (("first", 20), ("second", 30)):
        shown = (photograph("astronaut.png")[top : top + 64, 100 + i : 196 + i] for i in range(24))
        write_video(tmp_path / f"{name}.mp4", shown, 24, lossless=False, sound=_hum(24, 24))
    project = {"project_id": owner.project_id}
    film = insert(tables.generations, **project, type="video")
    generation = insert(tables.generations, **project, type="image")
    shot = insert(tables.shots, **project, name="a shot")
    return {
        "pictures": [kept(f"{i}.png") for i in range(3)],
        "clips": [kept(f"{name}.mp4") for name in ("first", "second")],
        "mask": kept("mask.png"),
        "sound": kept("second.mp4"),
        "film": film,
        "generation": generation,
        "child": insert(tables.generations, **project, type="video", parent_generation_id=film),
        "variant": insert(
            tables.generation_variants, generation_id=generation, location="x", variant_type="edit", is_primary=True
        ),
        "shot": shot,
        "places": [str(insert(tables.shot_generations, shot_id=shot, generation_id=generation)) for _ in range(2)],
    }


def _hum(frames: int, fps: int) -> Any:
    return (np.full((2, 48_000 // fps), 0.1 * (i % 2), np.float32) for i in range(frames))


def bases(media: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The least request of each type that an engine without a model makes."""
    picture, *_ = media["pictures"]
    travel = {"image_urls": media["pictures"], "base_prompts": ["a walk"]}
    return {
        "travel_orchestrator": travel | {"segment_frames": 9},
        "wan_2_2_i2v": travel,
        "individual_travel_segment": {
            "segment_index": 1,
            "parent_generation_id": str(media["film"]),
            "start_image_url": picture,
            "end_image_url": media["pictures"][1],
        },
        "join_clips_orchestrator": {"clips": media["clips"], "gap_frame_count": 5, "context_frame_count": 4},
        "image_upscale": {"image_url": picture},
        "replicate_upscale": {"image_url": picture},
        "image_inpaint": {"image_url": picture, "mask_url": media["mask"], "prompt": "nothing"},
    }


def made(owner: Owner, task_type: str, params: Mapping[str, Any], folder: Path) -> tuple[list[str], Any]:
    """The notes of a request's result, and what it brought: what engines were asked for, its file, where that goes."""
    created = create_task(task_type, params, project_id=owner.project_id)
    folder.mkdir(parents=True)
    for hosted in queue.claim("api", "host", hosted=True):
        plant_children(hosted)
    while claimed := queue.claim("gpu", "worker", limit=10):
        for task in claimed:
            (folder / str(task.id)).mkdir()
            queue.complete(task.lease, execute(Bench(task, folder / str(task.id), lambda _: None, lambda: False)))
    ended = get_task(created.task_id)
    assert ended.status == "Complete", ended.error_message
    return ended.notes, _brought(ended, folder)


def _without_drawn_ids(place: Mapping[str, Any]) -> dict[str, Any]:
    """A placement without the ids of generations, which are new with each task."""
    return {key: value for key, value in place.items() if not key.endswith("generation_id") or key.startswith("pair_")}


def _brought(task: Task, folder: Path) -> Any:
    t = tables.tasks
    ids = [task.id, *(child.id for child in list_tasks(parent_task_id=task.id))]
    with database.transaction() as connection:
        rows = connection.execute(sa.select(t.c.placement, t.c.model).where(t.c.id.in_(ids)).order_by(t.c.created_at))
        told = [(_without_drawn_ids(place or {}), model) for place, model in rows]
    assert task.output_location is not None
    storage.fetch(task.output_location, folder / "output")
    file = hashlib.sha256((folder / "output").read_bytes()).hexdigest()
    asked = [*Plain.asked]
    Plain.asked.clear()
    return file, asked, str(told)


@pytest.mark.parametrize("task_type", OWN_ENGINE)
def test_field_is_followed_or_noted_when_the_engine_without_a_model_makes_it(
    owner: Owner, media: dict[str, Any], tmp_path: Path, task_type: str
) -> None:
    base = bases(media)[task_type]
    asks = fields(task_type, base, samples(media["clips"][0], media))
    alone = {name: ask[name] for name, ask in asks.items() if list(ask) == [name] and name != "model_name"}
    together = {name: value for name, value in alone.items() if name not in NOT_TOGETHER}
    notes, _ = made(owner, task_type, base | together, tmp_path / "together")
    dropped = []
    without: dict[str, Any] = {}
    for name, ask in asks.items():
        if named(notes, name) or name == "model_name":
            continue
        beside = {key: value for key, value in ask.items() if key not in (name, "resolution_mode")}
        if str(beside) not in without:
            without[str(beside)] = made(owner, task_type, base | beside, tmp_path / f"{name}-without")[1]
        own, brought = made(owner, task_type, base | ask, tmp_path / name)
        if not named(own, name) and brought == without[str(beside)]:
            dropped.append(name)
    assert not dropped


@pytest.mark.parametrize(("task_type", "provider"), SERVED)
def test_field_is_followed_or_noted_when_a_provider_makes_it(task_type: str, provider: str) -> None:
    declared = task_types()[task_type]
    drawn: dict[str, Any] = dict.fromkeys(("film", "generation", "child", "variant", "shot", "sound"), UUID(int=1))
    known = samples(IMAGE, drawn | {"places": [str(UUID(int=i)) for i in range(2)]})
    seed = {"seed": 5} if "seed" in declared.params.model_fields else {}
    base = PARAMS[task_type] | seed
    if task_type == "wan_2_2_i2v":
        base["image_urls"] = [IMAGE] * 3
    if task_type == "animate_character":
        known["resolution"] = {"resolution": "480p"}

    def asked(request: Mapping[str, Any]) -> tuple[tuple[str, ...], Any]:
        params = declared.params.parse(request)
        prepared = declared.prepare(params, Preparation(UUID(int=0), lambda custom: custom or "902x508"))
        statement = asked_of(params)
        found = works(BUILDS[task_type][provider], prepared.params, asked=statement["fields"])
        place = {key: value for key, value in (prepared.placement or {}).items()}
        return (*statement["notes"], *found[0].notes), ([(w.model, w.input) for w in found], place)

    dropped = []
    for name, ask in fields(task_type, base, known).items():
        # How long a provider may take is for the pool, which has a test of its own; a drawn seed is another each time.
        if name == "max_wait_seconds":
            continue
        companions = {key: value for key, value in ask.items() if key not in (name, "resolution_mode")}
        _, without = asked(base | companions)
        notes, brought = asked(base | ask)
        if not named(list(notes), name) and brought == without:
            dropped.append(name)
    assert not dropped
