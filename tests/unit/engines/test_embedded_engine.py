"""What the embedded engine promises of every result: counts, anchors, provenance, determinism, an end when told to."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tasks_lib.engines.base import (
    Cancelled,
    Context,
    EngineResult,
    Frame,
    GenerateRequest,
    InbetweenRequest,
    Request,
)
from tasks_lib.engines.embedded import EmbeddedEngine
from tasks_lib.engines.embedded.inbetween import MIN_CONFIDENCE
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.images import load_image
from tasks_lib.media.video import write_video

WIDTH, HEIGHT = 256, 144


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two framings of one photograph, and another photograph."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "data"
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(data / "coffee.png") as photograph:
        photograph.crop((60, 60, 460, 285)).save(folder / "a.png")
        photograph.rotate(6).crop((130, 90, 480, 287)).save(folder / "b.png")
    return {"a": folder / "a.png", "b": folder / "b.png", "other": data / "rocket.jpg"}


def request(start: Path, end: Path | None, **changes: Any) -> InbetweenRequest:
    return replace(InbetweenRequest(start, end, frames=5, width=WIDTH, height=HEIGHT), **changes)


def run(asked: Request) -> EngineResult:
    return EmbeddedEngine().run(asked, on_progress=lambda *_: None, cancelled=lambda: False)


def frames_of(asked: Request) -> list[Frame]:
    return list(run(asked).frames)


def load(path: Path) -> Frame:
    return load_image(path, WIDTH, HEIGHT)


def test_anchors_are_exact_when_a_segment_is_rendered(pictures: dict[str, Path]) -> None:
    frames = frames_of(request(pictures["a"], pictures["b"]))
    assert len(frames) == 5
    assert np.array_equal(frames[0], load(pictures["a"]))
    assert np.array_equal(frames[-1], load(pictures["b"]))
    assert all(frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8 for frame in frames)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_frame_count_is_exact_when_any_count_is_asked(pictures: dict[str, Path], count: int) -> None:
    assert len(frames_of(request(pictures["a"], pictures["b"], frames=count))) == count


def test_method_is_flow_when_images_show_one_scene(pictures: dict[str, Path]) -> None:
    asked = request(pictures["a"], pictures["b"], seed=7, prompt="a drone shot")
    provenance = run(asked).provenance
    assert provenance.method == "flow"
    assert provenance.confidence is not None
    assert provenance.confidence > 2 * MIN_CONFIDENCE
    assert provenance.as_dict()["seed"] == 7
    assert {"prompt", "seed", "loras", "guide"} < EmbeddedEngine().ignores(asked).keys()


def test_method_is_an_eased_crossfade_and_says_so_when_images_are_unrelated(pictures: dict[str, Path]) -> None:
    result = run(request(pictures["a"], pictures["other"]))
    assert result.provenance.method == "crossfade"
    assert result.provenance.confidence is not None
    assert result.provenance.confidence < MIN_CONFIDENCE
    frames = list(result.frames)
    start, end = load(pictures["a"]).astype(float), load(pictures["other"]).astype(float)
    eased = start + (end - start) * (1 - np.cos(np.pi / 4)) / 2
    assert np.abs(frames[1] - eased).max() <= 1
    assert np.array_equal(frames[-1], load(pictures["other"]))


def test_camera_pushes_in_when_there_is_no_end_image(pictures: dict[str, Path]) -> None:
    result = run(request(pictures["a"], None))
    frames = list(result.frames)
    assert (result.provenance.method, result.provenance.confidence, len(frames)) == ("push_in", None, 5)
    assert np.array_equal(frames[0], load(pictures["a"]))
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert min(steps) > 0
    assert steps[0] < steps[1], "an eased move starts slowly"


def test_frames_repeat_bit_for_bit_when_run_again(pictures: dict[str, Path]) -> None:
    asked = request(pictures["a"], pictures["b"], seed=3)
    assert np.array_equal(frames_of(asked), frames_of(asked))


def test_context_is_passed_through_and_start_left_out_when_continuing(
    pictures: dict[str, Path], tmp_path: Path
) -> None:
    before = frames_of(request(pictures["b"], pictures["a"], frames=6))
    clip = tmp_path / "before.mp4"
    write_video(clip, before, 16, lossless=True)
    asked = request(pictures["a"], pictures["b"], frames=8, context=Context(clip, 4))
    frames = frames_of(asked)
    assert len(frames) == 8
    assert np.array_equal(frames[:4], before[-4:])
    assert not np.array_equal(frames[4], load(pictures["a"]))
    assert np.array_equal(frames[-1], load(pictures["b"]))
    without = request(pictures["a"], pictures["b"], frames=4, start_included=False)
    assert np.array_equal(frames[4:], frames_of(without))


def test_engine_refuses_context_when_its_size_differs(pictures: dict[str, Path], tmp_path: Path) -> None:
    clip = tmp_path / "small.mp4"
    write_video(clip, [np.zeros((64, 64, 3), np.uint8)] * 3, 16, lossless=True)
    with pytest.raises(EngineError, match="64 x 64"):
        frames_of(request(pictures["a"], pictures["b"], context=Context(clip, 2)))


@pytest.mark.parametrize(("stop_after", "drawn"), [(0, 0), (3, 3)])
def test_run_ends_within_one_frame_when_cancelled(pictures: dict[str, Path], stop_after: int, drawn: int) -> None:
    done: list[int] = []
    frames: list[Frame] = []

    def consume() -> None:
        result = EmbeddedEngine().run(
            request(pictures["a"], pictures["b"], frames=9),
            on_progress=lambda step, *_: done.append(step),
            cancelled=lambda: len(done) >= stop_after,
        )
        for frame in result.frames:
            frames.append(frame)  # noqa: PERF402 - what was drawn before the exception is what counts

    with pytest.raises(Cancelled):
        consume()
    assert len(frames) == drawn


def test_progress_counts_every_frame_when_drawn(pictures: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    result = EmbeddedEngine().run(
        request(pictures["a"], pictures["b"]),
        on_progress=lambda step, total, *_: seen.append((step, total)),
        cancelled=lambda: False,
    )
    assert seen == [], "frames are made as they are drawn"
    list(result.frames)
    assert seen == [(i, 5) for i in range(1, 6)]


def test_engine_names_what_could_serve_when_the_kind_is_not_its_own() -> None:
    asked = GenerateRequest(width=WIDTH, height=HEIGHT, prompt="a house")
    for call in (EmbeddedEngine().estimate, run):
        with pytest.raises(EngineError, match=r"`generate`.*UNITASK_MODELS"):
            cast(Callable[[Request], object], call)(asked)


def test_estimate_grows_when_more_is_asked(pictures: dict[str, Path]) -> None:
    engine = EmbeddedEngine()
    small, long = (engine.estimate(request(pictures["a"], pictures["b"], frames=n)) for n in (5, 81))
    assert 0 < small.seconds < long.seconds
    assert small.bytes > 0


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("frames", {"frames": 1}),
        ("frames", {"frames": 0, "end": None}),
        ("frames", {"frames": 4, "context": Context(Path("clip.mp4"), 4)}),
        ("width", {"width": 0}),
        ("height", {"height": -2}),
    ],
)
def test_request_is_refused_by_field_when_numbers_cannot_work(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(TaskValidationError) as refused:
        replace(request(Path("a.png"), Path("b.png")), **changes)
    assert refused.value.field == field
