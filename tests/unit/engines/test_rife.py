"""The engine of RIFE, on tiny weights in the layout of the real ones, which the benchmark tries.

What imports torch is imported where it is used: that takes seconds, and every test process reads this.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tasks_lib.engines.base import Cancelled, Context, EngineResult, Frame, InbetweenRequest, Request, UpscaleRequest
from tasks_lib.engines.cache import warm_models
from tasks_lib.engines.select import engine_for
from tasks_lib.errors import EngineError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import write_video
from tasks_lib.models import Model
from tasks_lib.settings import get_settings
from tests.scenes import photograph

WIDTH, HEIGHT = 96, 80


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they give for matrices of a few numbers."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def nothing_warm() -> Iterator[None]:
    yield
    warm_models().clear()
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two framings of one photograph, and another photograph."""
    folder = tmp_path_factory.mktemp("pictures")
    coffee = photograph("coffee.png")
    made = {"a": coffee[100:340, 100:388], "b": coffee[104:344, 112:400], "other": photograph("rocket.jpg")}
    for name, pixels in made.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in made}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unit.engines import tiny_rife

    return tiny_rife.save(tmp_path_factory.mktemp("rife") / "flownet.pkl")


Run = Callable[..., EngineResult]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Serve a request by a row with these weights, as a worker does."""

    def run(path: Path, asked: Request, *, on_progress: Any = None, cancelled: Any = None, **row: Any) -> EngineResult:
        model = Model(pipeline="RIFE", path=str(path), **row)
        monkeypatch.setenv("UNITASK_MODELS", f'{{"rife": {model.model_dump_json(exclude_unset=True)}}}')
        get_settings.cache_clear()
        return engine_for(asked, "rife").run(
            asked, on_progress=on_progress or (lambda *_: None), cancelled=cancelled or (lambda: False)
        )

    return run


def request(pictures: dict[str, Path], end: str | None = "b", **changes: Any) -> InbetweenRequest:
    last = None if end is None else pictures[end]
    return replace(InbetweenRequest(pictures["a"], last, frames=5, width=WIDTH, height=HEIGHT, seed=3), **changes)


def load(path: Path) -> Frame:
    return load_image(path, WIDTH, HEIGHT)


def test_anchors_are_exact_and_the_weights_are_named_when_a_segment_is_drawn(
    run: Run, weights: Path, pictures: dict[str, Path]
) -> None:
    loaded = warm_models().loads
    result = run(weights, request(pictures, prompt="a walk"))
    frames = list(result.frames)
    assert len(frames) == 5
    assert np.array_equal(frames[0], load(pictures["a"]))
    assert np.array_equal(frames[-1], load(pictures["b"]))
    assert {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    said = result.provenance
    assert (said.engine, said.method, said.seed) == ("rife", "rife", 3)
    assert said.model is not None
    assert (said.model.id, said.model.digest) == ("rife", hashlib.sha256(weights.read_bytes()).hexdigest())
    assert said.confidence is not None
    assert said.confidence > 0.3
    assert "torch" in said.versions
    again = list(run(weights, request(pictures)).frames)
    assert np.array_equal(frames, again)
    assert (warm_models().aliases, warm_models().loads - loaded) == (("rife",), 1)


def test_tail_of_the_clip_before_comes_first_when_there_is_context(
    run: Run, weights: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    before = list(run(weights, request(pictures)).frames)
    write_video(tmp_path / "before.mkv", before, 16, lossless=True)
    frames = list(run(weights, request(pictures, frames=8, context=Context(tmp_path / "before.mkv", 3))).frames)
    assert np.array_equal(frames[:3], before[-3:])
    assert len(frames) == 8


@pytest.mark.parametrize(("end", "method"), [("other", "crossfade"), (None, "push_in")])
def test_no_model_is_named_when_the_network_draws_nothing(
    run: Run, weights: Path, pictures: dict[str, Path], end: str | None, method: str
) -> None:
    said = run(weights, request(pictures, end)).provenance
    assert (said.engine, said.method, said.model) == ("rife", method, None)


def test_weights_are_the_same_when_the_file_is_safetensors(run: Run, pictures: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from tasks_lib.engines.rife.network import IFNet, Pair
    from tests.unit.engines import tiny_rife

    save_file(tiny_rife.random(), tmp_path / "flownet.safetensors")
    result = run(tmp_path / "flownet.safetensors", request(pictures, frames=3))
    a, middle, b = result.frames
    assert np.array_equal(middle, Pair(IFNet(tiny_rife.random(), "cpu"), a, b).at(0.5))


def test_pixels_are_moved_as_the_flows_say_when_the_last_block_says_them(pictures: dict[str, Path]) -> None:
    """Weights of nothing but a bias: each block adds a flow of its own to both images, and one mask chooses."""
    from tasks_lib.engines.rife.network import IFNet, Pair
    from tests.unit.engines import tiny_rife

    a, b = load(pictures["a"]), load(pictures["b"])
    still = tiny_rife.random(spread=0)
    middle = Pair(IFNet(still, "cpu"), a, b).at(0.5)
    assert np.abs(middle - (a.astype(float) + b) / 2).max() <= 0.5
    for mask, image, (dx, dy) in ((20.0, a, (3, 5)), (-20.0, b, (4, -2))):
        moving = {name: tensor.clone() for name, tensor in still.items()}
        for block in range(tiny_rife.BLOCKS):
            scale = 1 << (tiny_rife.BLOCKS - 1 - block)
            share = 1 / tiny_rife.BLOCKS / scale
            # Each number has four places: x and y for the first image, for the second, and the mask.
            for i, value in enumerate((3 * share, 5 * share, 4 * share, -2 * share, mask)):
                moving[f"block{block}.lastconv.0.bias"][4 * i : 4 * i + 4] = value
        made = Pair(IFNet(moving, "cpu"), a, b).at(0.5)
        expected = np.roll(image, (-dy, -dx), (0, 1))
        assert np.array_equal(made[8:-8, 8:-8], expected[8:-8, 8:-8])


class _Runs:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def spoilt(name: str, folder: Path) -> Path:
    from tests.unit.engines import tiny_rife

    path = folder / "flownet.pkl"
    good = tiny_rife.random()
    if name == "code":
        path.write_bytes(pickle.dumps({"encode.cnn0.weight": _Runs(folder / "ran")}))
    elif name == "noise":
        path.write_bytes(b"no weights at all")
    elif name == "cut":
        path.write_bytes(tiny_rife.save(path).read_bytes()[:-2000])
    elif name == "older":
        tiny_rife.save(path, {key: tensor for key, tensor in good.items() if "cnn3" not in key})
    elif name == "headless":
        tiny_rife.save(path, {key: tensor for key, tensor in good.items() if "block" not in key})
    elif name == "wider":
        tiny_rife.save(path, good | {"block1.conv0.0.0.weight": good["block1.conv0.0.0.weight"][:, 1:]})
    return path


@pytest.mark.parametrize("name", ["missing", "code", "noise", "cut", "older", "headless", "wider"])
def test_weights_are_refused_and_nothing_runs_when_they_are_no_rife(
    run: Run, pictures: dict[str, Path], tmp_path: Path, name: str
) -> None:
    problem = "has no file" if name == "missing" else "`rife` cannot be loaded .* RIFE 4.25 or 4.26"
    with pytest.raises(EngineError, match=problem):
        run(spoilt(name, tmp_path), request(pictures))
    assert not (tmp_path / "ran").exists()
    assert warm_models().aliases == ()


def test_weights_are_refused_when_their_digest_is_another(run: Run, weights: Path, pictures: dict[str, Path]) -> None:
    with pytest.raises(EngineError, match="digest"):
        run(weights, request(pictures), sha256="0" * 64)


@pytest.mark.parametrize("more", [{"steps": 4}, {"allow_download": True}, {"dtype": "float16"}])
def test_row_is_refused_when_it_says_what_rife_has_no_use_for(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"not {next(iter(more))}"):
        Model.model_validate({"pipeline": "RIFE", "path": "flownet.pkl", **more})


def test_other_kinds_are_refused_when_rife_is_asked(run: Run, weights: Path, pictures: dict[str, Path]) -> None:
    with pytest.raises(EngineError, match="serves inbetween, not `upscale`"):
        run(weights, UpscaleRequest(pictures["a"], 2))


def test_work_ends_between_two_frames_when_cancelled(run: Run, weights: Path, pictures: dict[str, Path]) -> None:
    seen: list[int] = []
    result = run(
        weights,
        request(pictures, frames=9),
        on_progress=lambda step, *_: seen.append(step),
        cancelled=lambda: len(seen) == 3,
    )
    with pytest.raises(Cancelled, match="frame 4 of 9"):
        list(result.frames)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("times", [1, 2])
def test_frame_is_drawn_again_without_other_models_when_memory_was_short(
    run: Run, weights: Path, pictures: dict[str, Path], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    import torch

    from tasks_lib.engines.rife.network import IFNet

    draw, failures = IFNet.between, [torch.OutOfMemoryError("no more")] * times

    def between(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return draw(*args)

    result = run(weights, request(pictures))
    monkeypatch.setattr(IFNet, "between", between)
    if times == 1:
        assert len(list(result.frames)) == 5
    else:
        with pytest.raises(EngineError, match="does not fit") as refused:
            list(result.frames)
        assert refused.value.retryable
    assert warm_models().aliases == ()
