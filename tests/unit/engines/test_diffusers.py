"""The engines that load weights, on tiny pipelines that are built, saved and loaded as real ones are.

What imports torch and diffusers is imported where it is used: that takes seconds, and every test process reads this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks_lib.engines.base import (
    AnimateRequest,
    Cancelled,
    Context,
    EditRequest,
    EngineResult,
    Frame,
    GenerateRequest,
    InbetweenRequest,
    InpaintRequest,
    IsCancelled,
    OnStep,
    Request,
    UpscaleRequest,
    VaryRequest,
)
from tasks_lib.engines.cache import warm_models
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import write_video
from tasks_lib.models import Model
from tasks_lib.params.loras import Lora
from tasks_lib.params.phases import PhaseConfig
from tasks_lib.settings import Settings

WIDTH, HEIGHT = 40, 32
MODES = ("animate", "replace")
VACE, I2V, Z_IMAGE = "WanVACEPipeline", "WanImageToVideoPipeline", "ZImagePipeline"

UNGUIDED = {VACE: 1.0, "QwenImagePipeline": 1.0, Z_IMAGE: 0.0}
"""The guidance at which each follows no negative prompt."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they give for matrices of a few numbers."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    warm_models().clear()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A row of the table for every pipeline, whose folder is made when it is first asked for."""

    from tests.unit.engines import tiny

    pose = str(tiny.build_pose(tmp_path_factory.mktemp("pose")))

    class Rows(dict[str, Model]):
        def __missing__(self, pipeline: str) -> Model:
            folder = tiny.build(pipeline, tmp_path_factory.mktemp(pipeline))
            self[pipeline] = Model(
                pipeline=pipeline, path=str(folder), dtype="float32", steps=2, edit_pixels=64 * 64, pose=pose
            )
            return self[pipeline]

    return Rows()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    made = {name: rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) for name in ("a", "b")}
    made["mask"] = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    made["mask"][8:24, 8:24] = 255
    for name, pixels in made.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    clip = [rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(6)]
    write_video(folder / "clip.mkv", iter(clip), 16, lossless=True)
    return {**{name: folder / f"{name}.png" for name in made}, "clip": folder / "clip.mkv"}


WORDS: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "prompt": "a house", "negative_prompt": "rain", "seed": 3}


def request(kind: str, pictures: dict[str, Path], **changes: Any) -> Any:
    a, b = pictures["a"], pictures["b"]
    asked: dict[str, Request] = {
        "inbetween": InbetweenRequest(a, b, frames=5, **WORDS),
        "generate": GenerateRequest(**WORDS),
        "edit": EditRequest(images=(a, b), **WORDS),
        "vary": VaryRequest(image=a, strength=0.6, **WORDS),
        "inpaint": InpaintRequest(image=a, mask=pictures["mask"], **WORDS),
        "upscale": UpscaleRequest(image=a, factor=2, seed=3),
        "animate": AnimateRequest(image=a, video=pictures["clip"], mode="animate", fps=16, **WORDS),
    }
    return replace(asked[kind], **changes)


def run(
    model: Model,
    asked: Request,
    settings: Settings | None = None,
    on_progress: OnStep = lambda *_: None,
    cancelled: IsCancelled = lambda: False,
) -> EngineResult:
    from tasks_lib.engines.diffusers.engine import DiffusersEngine

    engine = DiffusersEngine(model.pipeline, model, settings or Settings())
    return engine.run(asked, on_progress=on_progress, cancelled=cancelled)


def frames_of(model: Model, asked: Request, **options: Any) -> list[Frame]:
    return list(run(model, asked, **options).frames)


@pytest.mark.parametrize(
    ("pipeline", "kind"),
    [
        (VACE, "inbetween"),
        (I2V, "inbetween"),
        ("WanPipeline", "generate"),
        ("QwenImagePipeline", "generate"),
        ("QwenImagePipeline", "vary"),
        ("QwenImagePipeline", "inpaint"),
        ("QwenImageEditPipeline", "edit"),
        ("QwenImageEditPipeline", "inpaint"),
        ("QwenImageEditPlusPipeline", "edit"),
        (Z_IMAGE, "generate"),
        (Z_IMAGE, "vary"),
        (Z_IMAGE, "inpaint"),
        ("StableDiffusionUpscalePipeline", "upscale"),
        ("WanAnimatePipeline", "animate"),
    ],
)
def test_pixels_are_the_same_again_when_the_seed_is_the_same(
    models: dict[str, Model], pictures: dict[str, Path], pipeline: str, kind: str
) -> None:
    asked = request(kind, pictures)
    seen: list[tuple[int, int]] = []
    result = run(models[pipeline], asked, on_progress=lambda step, total, *_: seen.append((step, total)))
    frames = list(result.frames)
    factor = 2 if kind == "upscale" else 1
    assert {frame.shape for frame in frames} == {(factor * HEIGHT, factor * WIDTH, 3)}
    assert len(frames) == {"inbetween": 5, "animate": 6}.get(kind, 1)
    assert [step for step, _ in seen] == list(range(1, seen[-1][1] + 1))

    again, other = (frames_of(models[pipeline], replace(asked, seed=seed)) for seed in (3, 4))
    assert np.array_equal(frames, again)
    assert not np.array_equal(frames, other)

    provenance = result.provenance
    assert (provenance.engine, provenance.seed, provenance.confidence) == ("diffusers", 3, None)
    assert provenance.model is not None
    assert (provenance.model.id, len(provenance.model.digest or "")) == (pipeline, 64)
    assert provenance.versions["diffusers"]


@pytest.mark.parametrize("count", [6, 7, 9])
@pytest.mark.parametrize("pipeline", [VACE, I2V])
def test_frames_are_as_many_as_asked_and_anchors_exact_when_the_model_would_round(
    models: dict[str, Model], pictures: dict[str, Path], pipeline: str, count: int
) -> None:
    start, end = (load_image(pictures[name], WIDTH, HEIGHT) for name in ("a", "b"))
    asked = request("inbetween", pictures, frames=count, start_included=count != 7)
    frames = frames_of(models[pipeline], asked)
    assert len(frames) == count
    assert np.array_equal(frames[-1], end)
    assert np.array_equal(frames[0], start) == (count != 7)


@pytest.mark.parametrize("pipeline", [VACE, I2V])
def test_tail_of_the_clip_before_comes_first_when_there_is_context(
    models: dict[str, Model], pictures: dict[str, Path], pipeline: str
) -> None:
    asked = request("inbetween", pictures, frames=9, context=Context(pictures["clip"], 4), guide_strength=0.5)
    frames = frames_of(models[pipeline], asked)
    tail = read_clip(pictures["clip"])[-4:]
    assert len(frames) == 9
    assert np.array_equal(frames[:4], tail)


def read_clip(clip: Path) -> list[Frame]:
    from tasks_lib.media.video import read_frames

    return list(read_frames(clip))


def test_guide_steers_vace_and_is_refused_when_the_model_knows_no_guides(
    models: dict[str, Model], pictures: dict[str, Path]
) -> None:
    free, guided, weaker = (
        frames_of(models[VACE], request("inbetween", pictures, frames=6, guide=guide, guide_strength=strength))
        for guide, strength in ((None, 1.0), (pictures["clip"], 1.0), (pictures["clip"], 0.3))
    )
    assert not np.array_equal(free, guided)
    # Its first frame belongs to the first that is asked for, also where the image before that is only led in from.
    late = request("inbetween", pictures, frames=6, guide=pictures["clip"], start_included=False)
    assert len(frames_of(models[VACE], late)) == 6
    assert not np.array_equal(guided, weaker)
    with pytest.raises(EngineError, match="WanVACEPipeline"):
        run(models[I2V], request("inbetween", pictures, guide=pictures["clip"]))


def test_pictures_stand_at_their_places_when_a_clip_is_given_some_inside(
    models: dict[str, Model], pictures: dict[str, Path]
) -> None:
    a, b = (load_image(pictures[name], WIDTH, HEIGHT) for name in ("a", "b"))
    inside = ((5, pictures["b"]), (6, pictures["a"]))
    asked = request("inbetween", pictures, frames=17, context=Context(pictures["clip"], 4), shown=inside)
    frames = frames_of(models[VACE], asked)
    without = frames_of(models[VACE], replace(asked, shown=()))
    assert len(frames) == 17
    assert np.array_equal(frames[5], b)
    assert np.array_equal(frames[6], a)
    assert np.array_equal(frames[:4], without[:4])
    assert not np.array_equal(frames[7], without[7]), "they are seen by what is made, too"
    late = frames_of(models[VACE], request("inbetween", pictures, start_included=False, shown=((1, pictures["a"]),)))
    assert np.array_equal(late[1], a)
    with pytest.raises(EngineError, match="inside a clip, need a WanVACEPipeline"):
        run(models[I2V], replace(asked, context=None))
    with pytest.raises(TaskValidationError, match=r"places \[17\] among 17 frames"):
        replace(asked, shown=((17, pictures["a"]),))


@pytest.mark.parametrize("pipeline", [VACE, I2V])
def test_colours_are_those_of_what_was_given_when_they_are_matched(
    models: dict[str, Model], pictures: dict[str, Path], pipeline: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    colours = {"a": (200, 60, 40), "b": (40, 70, 190)}
    given = {name: np.clip(rng.normal(c, 12, (HEIGHT, WIDTH, 3)), 0, 255) for name, c in colours.items()}
    for name, pixels in given.items():
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    asked = request("inbetween", pictures, start=tmp_path / "a.png", end=tmp_path / "b.png", frames=9)

    def off(frames: list[Frame]) -> float:
        """By how much the frames next to both images differ from them in their mean colours."""
        pairs = ((frames[1], frames[0]), (frames[-2], frames[-1]))
        return float(np.mean([np.abs(made.mean((0, 1)) - known.mean((0, 1))) for made, known in pairs]))

    free, result = frames_of(models[pipeline], asked), run(models[pipeline], replace(asked, colour_match=True))
    frames = list(result.frames)
    assert len(frames) == len(free) == 9
    assert all(np.array_equal(free[i], frames[i]) for i in (0, -1)), "the images are exact in any case"
    # The model is made of noise, so that its frames have little in common with one another.
    assert off(free) > 50
    assert off(frames) < off(free) / 2
    assert "the colours were brought to those of the frames that were given" in result.provenance.notes


def test_nothing_outside_the_mask_changes_when_a_part_is_inpainted(
    models: dict[str, Model], pictures: dict[str, Path]
) -> None:
    (frame,) = frames_of(models[Z_IMAGE], request("inpaint", pictures))
    source, mask = (load_image(pictures[name], WIDTH, HEIGHT) for name in ("a", "mask"))
    assert np.array_equal(frame[mask == 0], source[mask == 0])
    assert not np.array_equal(frame[mask > 0], source[mask > 0])


def test_person_is_replaced_within_a_box_when_the_video_is_kept(
    models: dict[str, Model], pictures: dict[str, Path]
) -> None:
    kept, replaced = (run(models["WanAnimatePipeline"], request("animate", pictures, mode=m)) for m in MODES)
    assert (kept.provenance.method, replaced.provenance.method) == MODES
    assert "box around the body" in replaced.provenance.notes[-1]
    assert not np.array_equal(list(kept.frames), list(replaced.frames))
    without = models["WanAnimatePipeline"].model_copy(update={"pose": None})
    with pytest.raises(EngineError, match="`pose` in UNITASK_MODELS"):
        run(without, request("animate", pictures))
    elsewhere = models["WanAnimatePipeline"].model_copy(update={"pose": str(pictures["a"].parent)})
    with pytest.raises(EngineError, match="no ViTPose model"):
        run(elsewhere, request("animate", pictures))


def test_each_of_a_pair_makes_its_steps_when_there_are_phases(
    models: dict[str, Model], pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = PhaseConfig.parse(
        {
            "num_phases": 3,
            "steps_per_phase": [1, 2, 1],
            "model_switch_phase": 2,
            "phases": [{"phase": i + 1, "guidance_scale": guidance} for i, guidance in enumerate([1.0, 3.0, 1.0])],
        }
    )
    frames_of(models[VACE], request("inbetween", pictures))
    pipeline = warm_models().get(VACE, 0, 1 << 40, lambda: pytest.fail("it is loaded")).pipeline
    calls: list[str] = []
    hooks = [
        getattr(pipeline, name).register_forward_hook(lambda *_, name=name: calls.append(name))
        for name in ("transformer", "transformer_2")
    ]
    scheduler, boundary = pipeline.scheduler, pipeline.config.boundary_ratio
    frames_of(models[VACE], request("inbetween", pictures, phases=phases))
    for hook in hooks:
        hook.remove()
    # A guided step runs the model twice: with the prompt, and with the negative one.
    assert calls == ["transformer"] * 5 + ["transformer_2"]
    assert (pipeline.scheduler, pipeline.config.boundary_ratio) == (scheduler, boundary)


@pytest.fixture(scope="module")
def adapter(models: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of rank 2 for the tiny Wan VACE, in a folder of adapters."""
    import torch
    from diffusers import WanVACEPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    folder = tmp_path_factory.mktemp("loras")
    pipeline = WanVACEPipeline.from_pretrained(models[VACE].path)
    torch.manual_seed(1)
    pipeline.transformer.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    )
    WanVACEPipeline.save_lora_weights(
        folder, get_peft_model_state_dict(pipeline.transformer), weight_name="motion.safetensors"
    )
    return folder


def test_base_is_exactly_itself_again_when_an_adapter_was_used(
    models: dict[str, Model], pictures: dict[str, Path], adapter: Path
) -> None:
    settings = Settings(lora_folder=adapter)
    base = frames_of(models[VACE], request("inbetween", pictures))

    def adapted(strength: float) -> list[Frame]:
        loras = (Lora(path="motion", strength=strength),)
        return frames_of(models[VACE], request("inbetween", pictures, loras=loras), settings=settings)

    assert not np.array_equal(adapted(1.0), base)
    assert np.array_equal(adapted(0.0), base)
    assert np.array_equal(frames_of(models[VACE], request("inbetween", pictures)), base)


def test_adapter_of_a_model_is_on_its_expert_alone_when_its_row_says_so(
    models: dict[str, Model], pictures: dict[str, Path], adapter: Path
) -> None:
    def own(expert: str | None) -> list[Frame]:
        loras = [{"path": str(adapter / "motion.safetensors"), "expert": expert}] if expert else []
        row = Model.model_validate({**models[VACE].model_dump(), "loras": loras})
        return frames_of(row, request("inbetween", pictures))

    base, *others = (own(expert) for expert in (None, "high", "low", "both"))
    for i, frames in enumerate(others):
        assert all(not np.array_equal(frames, other) for other in (base, *others[:i]))
    assert np.array_equal(own(None), base)


@pytest.mark.parametrize("pipeline", [VACE, "QwenImagePipeline", Z_IMAGE])
def test_negative_prompt_counts_when_there_is_guidance(
    models: dict[str, Model], pictures: dict[str, Path], pipeline: str
) -> None:
    kind = "inbetween" if pipeline == VACE else "generate"

    def drawn(guidance: float, negative: str) -> list[Frame]:
        asked = request(kind, pictures, guidance=guidance, negative_prompt=negative)
        return frames_of(models[pipeline], asked)

    assert not np.array_equal(drawn(6.0, "rain"), drawn(6.0, "a crowd of people"))
    assert np.array_equal(drawn(UNGUIDED[pipeline], "rain"), drawn(UNGUIDED[pipeline], "a crowd of people"))


def test_adapter_acts_in_its_phase_alone_when_phases_name_it(
    models: dict[str, Model], pictures: dict[str, Path], adapter: Path
) -> None:
    def phased(*multipliers: str) -> list[Frame]:
        phases = [
            {"phase": i + 1, "loras": [{"url": "motion", "multiplier": m}] if m else []}
            for i, m in enumerate(multipliers)
        ]
        config = PhaseConfig.parse({"num_phases": 2, "steps_per_phase": [2, 1], "phases": phases})
        asked = request("inbetween", pictures, phases=config)
        return frames_of(models[VACE], asked, settings=Settings(lora_folder=adapter))

    none, early, ramp = phased("", ""), phased("1", ""), phased("1, 0", "")
    assert not np.array_equal(none, early)
    assert not np.array_equal(early, ramp)
    assert np.array_equal(phased("0,0", "0"), none)


@pytest.mark.parametrize(("old", "new"), [("to_k", "add_k_proj"), ("blocks.1.", "blocks.31.")])
def test_result_says_how_much_found_no_place_when_an_adapter_fits_in_part(
    models: dict[str, Model], pictures: dict[str, Path], adapter: Path, old: str, new: str
) -> None:
    from safetensors.torch import load_file, save_file

    whole = load_file(adapter / "motion.safetensors")
    save_file({key.replace(old, new): value for key, value in whole.items()}, adapter / "half.safetensors")
    settings = Settings(lora_folder=adapter)

    def notes(name: str) -> tuple[str, ...]:
        return run(models[VACE], request("inbetween", pictures, loras=(Lora(path=name),)), settings).provenance.notes

    moved = sum(old in key for key in whole)
    assert f"{moved} of {len(whole)} tensors of the adapter `half` found no place in the model" in notes("half")
    assert not [note for note in notes("motion") if "adapter" in note]


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("missing", "no adapter `missing`"),
        ("../a", "no adapter"),
        ("broken", "`broken.safetensors` cannot be loaded"),
        ("https://example.com/x.safetensors", "UNITASK_LORA_DOWNLOAD"),
    ],
)
def test_adapter_is_refused_when_it_is_not_one(
    models: dict[str, Model], pictures: dict[str, Path], adapter: Path, place: str, problem: str
) -> None:
    (adapter / "broken.safetensors").write_bytes((adapter / "motion.safetensors").read_bytes()[:-100])
    base = frames_of(models[VACE], request("inbetween", pictures))
    asked = request("inbetween", pictures, loras=(Lora(path=place),))
    with pytest.raises(EngineError, match=problem):
        run(models[VACE], asked, Settings(lora_folder=adapter))
    with pytest.raises(EngineError, match="UNITASK_LORA_FOLDER"):
        run(models[VACE], asked, Settings(lora_folder=None))
    assert np.array_equal(frames_of(models[VACE], request("inbetween", pictures)), base)


def test_work_stops_within_a_step_when_it_is_cancelled(models: dict[str, Model], pictures: dict[str, Path]) -> None:
    seen: list[int] = []
    asked = request("inbetween", pictures, steps=5)
    with pytest.raises(Cancelled, match="step 3 of 5"):
        run(models[VACE], asked, on_progress=lambda step, *_: seen.append(step), cancelled=lambda: len(seen) == 2)
    assert seen == [1, 2]
    assert len(frames_of(models[VACE], asked)) == 5


@pytest.mark.parametrize("pipeline", [VACE, "QwenImagePipeline", Z_IMAGE])
def test_preview_is_shown_when_a_run_takes_long(
    models: dict[str, Model], pictures: dict[str, Path], pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks_lib.engines.diffusers.steps.PREVIEW_SECONDS", 0)
    shown: list[Frame | None] = []
    kind = "inbetween" if pipeline == VACE else "generate"
    run(
        models[pipeline],
        request(kind, pictures, steps=3),
        on_progress=lambda _step, _total, preview=None: shown.append(preview),
    )
    first, second, last = shown
    assert first is not None
    assert second is not None
    assert last is None, "the result itself comes next"
    assert first.shape == second.shape == (32, 48, 3)
    assert not np.array_equal(first, second)


def test_provenance_says_so_when_memory_was_short(models: dict[str, Model], pictures: dict[str, Path]) -> None:
    import torch

    failures = [torch.OutOfMemoryError("no more")]
    frames_of(models[I2V], request("inbetween", pictures))
    pipeline = warm_models().get(I2V, 0, 1 << 40, lambda: pytest.fail("it is loaded")).pipeline

    def fail(*_: Any) -> None:
        raise failures.pop()

    pipeline.transformer.register_forward_hook(fail)
    result = run(models[I2V], request("inbetween", pictures))
    assert "memory was short" in result.provenance.notes[-1]
    assert warm_models().aliases == (I2V,)


def test_another_worker_may_try_and_nothing_stays_when_memory_is_short_twice(
    models: dict[str, Model], pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr("diffusers.WanTransformer3DModel.forward", full)
    with pytest.raises(EngineError, match="does not fit") as refused:
        run(models[I2V], request("inbetween", pictures))
    assert refused.value.retryable
    assert warm_models().aliases == ()
