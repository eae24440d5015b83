"""What the table of models may say, what is refused before it is loaded, and what stays loaded.

What imports torch and diffusers is imported where it is used: that takes seconds, and every test process reads this.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from tasks_lib.engines import weights
from tasks_lib.engines.base import UNGUIDED
from tasks_lib.engines.cache import Warm, WarmCache
from tasks_lib.engines.diffusers.guide import build_guide, quantised
from tasks_lib.engines.diffusers.phases import plan_steps, threshold
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.models import Model
from tasks_lib.params.loras import Lora
from tasks_lib.params.phases import PhaseConfig
from tasks_lib.serving import default_model, model_for, pool, pool_problem, require_engine
from tasks_lib.settings import Settings
from tasks_lib.types.registry import get_task_type

PIPELINE = "WanPipeline"
ROW = {"pipeline": PIPELINE, "path": "~/models/wan"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unit.engines import tiny

    return tiny.build(PIPELINE, tmp_path_factory.mktemp("good"))


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(good, tmp_path / "model")


def row(folder: Path, **changes: Any) -> Model:
    return Model.model_validate({**ROW, "path": str(folder), "dtype": "float32", **changes})


def test_table_is_read_when_it_is_json_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "models.toml"
    file.write_text('[wan]\npipeline = "WanPipeline"\npath = "~/models/wan"\nloras = [{path = "x", expert = "high"}]\n')
    for given, loras in ((json.dumps({"wan": ROW}), 0), (str(file), 1)):
        monkeypatch.setenv("UNITASK_MODELS", given)
        table = Settings().models
        assert table["wan"].kinds == frozenset({"generate"})
        assert len(table["wan"].loras) == loras
    monkeypatch.setenv("UNITASK_MODELS", "")
    assert Settings().models == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pipeline": "StableDiffusionPipeline"}, "must be one of WanVACEPipeline"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"trust_remote_code": True}, "Extra inputs"),
        ({"sha256": "abc"}, "pattern"),
    ],
)
def test_row_is_refused_when_the_table_does_not_know_it(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Model.model_validate({**ROW, **change})


def test_setting_is_named_when_the_table_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNITASK_MODELS", "{")
    with pytest.raises((SettingsError, ValidationError), match="models"):
        Settings()


@pytest.mark.parametrize(
    ("kind", "alias", "problem"),
    [
        ("generate", None, r"`generate` needs a model: name one of `wan`.*UNITASK_PROVIDERS"),
        ("generate", "other", "no model `other` in UNITASK_MODELS; known are: `wan`"),
        ("edit", "wan", "`wan` is a WanPipeline, which serves generate, not `edit`"),
    ],
)
def test_setting_is_named_when_nothing_serves_a_kind(kind: str, alias: str | None, problem: str) -> None:
    settings = Settings(models={"wan": Model.model_validate(ROW)})
    with pytest.raises(EngineError, match=problem):
        model_for(kind, alias, settings)
    assert model_for("generate", "wan", settings) == settings.models["wan"]
    assert model_for("inbetween", None, settings) is None


@pytest.mark.parametrize(
    ("task_type", "alias", "providers", "problem"),
    [
        ("single_image", None, {}, "`generate` needs a model"),
        ("travel_segment", "vace", {}, "no model `vace`"),
        ("qwen_image", None, {"qwen_image": "engine:nothing"}, "no model `nothing`"),
        ("image_upscale", "wan", {}, "not `upscale`"),
        ("travel_segment", None, {}, None),
        ("qwen_image", None, {"qwen_image": "engine:wan"}, None),
    ],
)
def test_task_is_refused_at_its_creation_when_no_engine_could_make_it(
    task_type: str, alias: str | None, providers: dict[str, str], problem: str | None
) -> None:
    declared = get_task_type(task_type)
    table = {"wan": Model.model_validate(ROW)}
    here = Settings(database_url="", models=table, providers=providers)
    if problem is None:
        require_engine(declared, {}, alias, here)
    else:
        with pytest.raises(EngineError, match=problem):
            require_engine(declared, {}, alias, here)
    require_engine(
        declared, {}, alias, Settings(database_url="postgresql://elsewhere", models=table, providers=providers)
    )


GUIDE = "https://example.com/guide.mp4"


@pytest.mark.parametrize(
    ("task_type", "params", "pipeline", "problem"),
    [
        ("travel_segment", {"structure_video_path": GUIDE}, "WanVACEPipeline", None),
        ("travel_segment", {"structure_video_path": GUIDE}, None, None),
        (
            "travel_segment",
            {"structure_video_path": GUIDE},
            "WanImageToVideoPipeline",
            "`structure_video_path`: a WanImageToVideoPipeline follows no guide",
        ),
        (
            "individual_travel_segment",
            {"structure_guidance": {"target": "vace", "videos": [{"path": GUIDE}]}},
            "WanImageToVideoPipeline",
            "leave `structure_guidance` out",
        ),
        (
            "travel_segment",
            {"structure_guidance": {"target": "uni3c", "videos": [{"path": GUIDE}]}},
            "WanVACEPipeline",
            "no pipeline here takes a guide by `uni3c`; say `vace`",
        ),
        ("travel_segment", {"structure_guidance": {"target": "uni3c", "videos": [{"path": GUIDE}]}}, None, None),
        (
            "travel_segment",
            {"structure_video_path": GUIDE, "structure_video_type": "depth"},
            "WanVACEPipeline",
            "`structure_video_type` is `depth`: `depth` of the model in UNITASK_MODELS must name the folder",
        ),
        ("travel_segment", {"structure_video_type": "depth"}, "WanVACEPipeline", None),
        ("join_clips_segment", {"keep_bridging_images": True}, "WanVACEPipeline", None),
        ("join_clips_segment", {"keep_bridging_images": False}, None, None),
        ("join_clips_segment", {"keep_bridging_images": True}, None, "`keep_bridging_images` needs a model that sees"),
        ("join_clips_segment", {"keep_bridging_images": True}, "WanImageToVideoPipeline", "`keep_bridging_images`"),
    ],
)
def test_task_is_refused_at_its_creation_when_its_model_cannot_follow_it(
    task_type: str, params: dict[str, Any], pipeline: str | None, problem: str | None
) -> None:
    table = {"it": Model.model_validate({"path": "/models", "pipeline": pipeline})} if pipeline else {}
    here, alias = Settings(database_url="", models=table), "it" if pipeline else None
    if problem is None:
        require_engine(get_task_type(task_type), params, alias, here)
    else:
        with pytest.raises(EngineError, match=problem):
            require_engine(get_task_type(task_type), params, alias, here)


def test_guide_by_depth_is_taken_when_the_model_names_one_that_reads_it() -> None:
    row = {"path": "/models", "pipeline": "WanVACEPipeline", "depth": "/models/depth"}
    params = {"structure_video_path": GUIDE, "structure_video_type": "depth"}
    here = Settings(database_url="", models={"it": Model.model_validate(row)})
    require_engine(get_task_type("travel_segment"), params, "it", here)


def test_type_runs_on_gpu_workers_when_the_settings_give_it_to_an_engine() -> None:
    ours = Settings(providers={"qwen_image": "engine:wan", "travel_orchestrator": "engine"})
    assert pool(get_task_type("qwen_image"), Settings()) == "api"
    assert pool(get_task_type("qwen_image"), ours) == "gpu"
    assert default_model("qwen_image", ours) == "wan"
    planned = get_task_type("travel_orchestrator")
    assert pool(planned, ours) == "api"
    assert pool_problem(planned, "api", ours) == "and UNITASK_PROVIDERS gives it to an engine, and no engine makes it"


def test_weights_are_loaded_and_counted_when_all_is_well(good: Path) -> None:
    from tasks_lib.engines.diffusers import load

    pipeline = load.load("wan", row(good, sha256=weights.digest(good), flow_shift=2.5))
    assert type(pipeline).__name__ == PIPELINE
    assert pipeline.scheduler.config.flow_shift == 2.5
    assert 0.8 < load.size_in_memory(pipeline) / weights.size_on_disk(good) < 1.2


def test_parts_have_the_numbers_of_the_row_and_the_decoder_single_precision_when_it_is_wan(good: Path) -> None:
    import torch

    from tasks_lib.engines.diffusers import load

    pipeline = load.load("wan", row(good, dtype="bfloat16"))
    assert {pipeline.transformer.dtype, pipeline.text_encoder.dtype} == {torch.bfloat16}
    assert pipeline.vae.dtype == torch.float32


def test_id_of_the_hub_is_asked_for_when_its_row_allows_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hub that is away: the task may succeed later, where without leave it never could."""
    from tasks_lib.engines.diffusers import load

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for allowed, problem in ((True, "cannot be fetched as `some/model`"), (False, "need `allow_download`")):
        model = Model.model_validate({**ROW, "path": "some/model", "allow_download": allowed})
        with pytest.raises(EngineError, match=problem) as refused:
            load.load("wan", model)
        assert refused.value.retryable == allowed


def test_shortage_is_told_from_other_failures_when_weights_are_loaded(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks_lib.engines.diffusers import load

    short = RuntimeError("CUDA error: out of memory")
    monkeypatch.setattr("diffusers.WanPipeline.from_pretrained", lambda *_, **__: (_ for _ in ()).throw(short))
    with pytest.raises(RuntimeError, match="out of memory") as told:
        load.load("wan", row(good))
    assert told.value is short


def cut_weights(folder: Path) -> None:
    path = next((folder / "transformer").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1000])


def other_class(folder: Path) -> None:
    change_index(folder, "_class_name", "WanVACEPipeline")


def own_code(folder: Path) -> None:
    change_index(folder, "transformer", ["my_module", "MyTransformer"])


def pickled(folder: Path) -> None:
    next((folder / "vae").glob("*.safetensors")).rename(folder / "vae" / "diffusion_pytorch_model.bin")


def change_index(folder: Path, name: str, value: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (cut_weights, "`wan` cannot be loaded"),
        (other_class, "`wan` is a WanVACEPipeline; UNITASK_MODELS says WanPipeline"),
        (own_code, "code of its own, which is never run: transformer"),
        (pickled, "only safetensors are loaded: diffusion_pytorch_model.bin"),
        (lambda folder: (folder / "model_index.json").unlink(), "no readable `model_index.json`"),
        (lambda folder: shutil.rmtree(folder / "vae"), "`wan` cannot be loaded"),
        (shutil.rmtree, "has no folder .*allow_download"),
    ],
)
def test_model_is_refused_when_its_folder_is_not_what_it_should_be(
    folder: Path, spoil: Callable[[Path], Any], problem: str
) -> None:
    from tasks_lib.engines.diffusers import load

    spoil(folder)
    with pytest.raises(EngineError, match=problem):
        load.load("wan", row(folder))


def test_model_is_refused_when_its_weights_are_others(folder: Path) -> None:
    from tasks_lib.engines.diffusers import load

    expected = weights.digest(folder)
    path = next((folder / "transformer").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(EngineError, match="digest"):
        load.load("wan", row(folder, sha256=expected))


def warm(size: int) -> Callable[[], Warm]:
    return lambda: Warm(object(), size, "", "none", True)


def test_longest_unused_makes_room_when_a_model_does_not_fit() -> None:
    cache = WarmCache()
    for alias, size in (("a", 40), ("b", 40), ("a", 40), ("c", 50)):
        cache.get(alias, size, 100, warm(size))
    assert (cache.aliases, cache.loads, cache.bytes_in_ram) == (("a", "c"), 3, 90)
    cache.get("whole", 500, 100, warm(500))
    assert cache.aliases == ("whole",)
    cache.get("a", 0, 520, warm(40))
    assert cache.aliases == ("a",), "what it really takes counts once it is loaded"
    cache.clear()
    assert not cache.aliases


def phases(*steps: int, loras: list[list[dict[str, str]]] | None = None, **changes: Any) -> PhaseConfig:
    named = loras or [[]] * len(steps)
    return PhaseConfig.parse(
        {
            "num_phases": len(steps),
            "steps_per_phase": list(steps),
            "phases": [{"phase": i + 1, "guidance_scale": 3.0 - i, "loras": own} for i, own in enumerate(named)],
            **changes,
        }
    )


def test_second_model_takes_over_between_two_steps_when_there_are_phases() -> None:
    from tasks_lib.engines.diffusers.wan import SOLVERS

    scheduler = SOLVERS["euler"](5.0)
    scheduler.set_timesteps(6)
    times = scheduler.timesteps.tolist()
    assert [round(threshold(times, step), 1) for step in (2, 4)] == [917.5, 663.2]
    assert plan_steps(9, None, (), phases(2, 2, 2, model_switch_phase=2)).switch == 4


def test_adapters_get_a_strength_for_every_step_when_phases_name_them() -> None:
    loras = [[{"url": "a", "multiplier": "1,0.5"}], [{"url": "a", "multiplier": "0.8"}, {"url": "b"}]]
    plan = plan_steps(30, 7.0, (Lora(path="always", strength=0.3),), phases(2, 1, loras=loras))
    assert plan.adapters == ("always", "a", "b")
    assert [step.strengths for step in plan.steps] == [(0.3, 1.0, 0.0), (0.3, 0.5, 0.0), (0.3, 0.8, 1.0)]
    assert [step.guidance for step in plan.steps] == [3.0, 3.0, 2.0]
    with pytest.raises(TaskValidationError, match="has 3 numbers; its phase has 2 steps") as refused:
        plan_steps(3, None, (), phases(2, 1, loras=[[{"url": "a", "multiplier": "1,1,1"}], []]))
    assert refused.value.field == "phase_config.phases[0].loras[0].multiplier"


def test_guide_shows_what_is_known_and_masks_the_rest() -> None:
    import numpy as np

    known, steer = np.full((2, 2, 3), 9, np.uint8), np.full((2, 2, 3), 5, np.uint8)
    guide = build_guide(4, (2, 2), {0: known, 3: known}, [steer, steer])
    assert [int(frame.max()) for frame in guide.frames] == [9, 5, UNGUIDED, 9]
    assert [int(mask.max()) for mask in guide.masks] == [0, 255, 255, 0]
    assert [quantised(n) for n in (1, 2, 5, 6, 9, 81)] == [1, 5, 5, 9, 9, 81]
