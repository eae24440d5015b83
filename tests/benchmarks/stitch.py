"""A film of 720p stitched from lossless segments, beside ffmpeg's own cross-fade filter on the same files.

Both get the same settings of x264 and take turns in the same run. ffmpeg's `fade` is linear in time and ours a cosine:
the two films differ a little at the joints, and are compared there, too.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from tasks_lib.engines.base import Frame
from tasks_lib.media.quality import psnr
from tasks_lib.media.stitch import Part, stitch
from tasks_lib.media.video import FILM, read_frames, write_video
from tests.scenes import PHOTOGRAPHS, photograph

SECONDS = float(os.environ.get("UNITASK_BENCH_STITCH_SECONDS", "600"))
FPS, SEGMENT, OVERLAP = 16, 81, 8
WIDTH, HEIGHT = 1280, 720
DISTINCT = 8
"""So many segments are made; a longer film shows them again and again (57 MB each)."""
LEAST_PSNR = 40.0
OURS = "import sys; from tests.benchmarks.stitch import ours; ours(sys.argv[1:])"


@dataclass(frozen=True)
class Measured:
    """What a program took: seconds by the wall and of all cores, and at most so many bytes of memory."""

    wall: float
    cpu: float
    peak: int


def run() -> None:
    """Make the segments, stitch them twice, compare the films, and print."""
    count = max(2, round((SECONDS * FPS - OVERLAP) / (SEGMENT - OVERLAP)))
    frames = count * SEGMENT - (count - 1) * OVERLAP
    with tempfile.TemporaryDirectory(prefix="unitask-stitch-") as name:
        folder = Path(name)
        segments = list(islice(cycle(_segments(folder, min(count, DISTINCT))), count))
        our_film, their_film = folder / "ours.mp4", folder / "ffmpeg.mp4"
        ours = _measure([sys.executable, "-c", OURS, str(our_film), *map(str, segments)])
        theirs = _measure(_ffmpeg(segments, their_film))
        whole, worst, counted = _alike(our_film, their_film)
    assert counted == (frames, frames), f"the films have {counted} frames; {frames} were meant"
    assert worst > LEAST_PSNR, f"the films differ: {worst:.1f} dB in one frame"
    print(
        f"{frames / FPS:.0f} s of {WIDTH} x {HEIGHT}: {frames} frames of {count} segments; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for who, took in (("ours", ours), ("ffmpeg xfade", theirs)):
        rate = f"{took.wall:.1f} s ({frames / took.wall:.1f} frames/s)"
        print(f"{who}: {rate}, {took.cpu:.1f} s of cores, at most {took.peak >> 20} MiB")
    print(f"speed against ffmpeg: {theirs.wall / ours.wall:.2f} by the wall, {theirs.cpu / ours.cpu:.2f} by the cores")
    print(f"the films agree: {whole:.1f} dB, {worst:.1f} in the worst frame")


def ours(arguments: Sequence[str]) -> None:
    """In a process of its own: stitch the segments named after the film."""
    film, *segments = map(Path, arguments)
    parts = [Part.of(path) for path in segments]
    overlaps = [OVERLAP] * (len(parts) - 1)
    stitch(parts, overlaps, film, FPS, mode="independent", on_progress=lambda _, __: None, cancelled=lambda: False)


def make_segment(path: Path, index: int, *, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A camera that moves over a photograph, as a segment is kept: it goes on from the segment before, a little lighter
    or darker, and comes back to where it began after `DISTINCT` of them."""
    picture = photograph(PHOTOGRAPHS[0])
    scale = 1.3 * max(width / picture.shape[1], height / picture.shape[0])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    large = cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4)
    large = cv2.subtract(large, np.full_like(large, 4 * (index % 2)))
    middle = size[0] / 2, size[1] / 2

    def seen() -> Iterator[Frame]:
        step = SEGMENT - OVERLAP
        for frame in range(index * step, index * step + SEGMENT):
            angle = 2 * np.pi * frame / (DISTINCT * step)
            matrix = cv2.getRotationMatrix2D(middle, 8 * np.sin(angle), 1.05 + 0.05 * np.sin(2 * angle))
            matrix[:, 2] += width / 2 - middle[0] + 60 * np.sin(3 * angle), height / 2 - middle[1] + 30 * np.cos(angle)
            yield np.asarray(cv2.warpAffine(large, matrix, (width, height), flags=cv2.INTER_CUBIC), np.uint8)

    write_video(path, seen(), FPS, lossless=True)
    return path


def _segments(folder: Path, count: int) -> list[Path]:
    return [make_segment(folder / f"{i}.mp4", i) for i in range(count)]


def _ffmpeg(segments: Sequence[Path], film: Path) -> list[str]:
    """The segments in a chain of `xfade` filters, the way its documentation joins many."""
    chain, last = [], "0:v"
    for i in range(1, len(segments)):
        start = i * (SEGMENT - OVERLAP) / FPS
        joined = f"v{i}"
        chain.append(f"[{last}][{i}:v]xfade=transition=fade:duration={OVERLAP / FPS}:offset={start}[{joined}]")
        last = joined
    chain.append(f"[{last}]scale=out_color_matrix=bt709:out_range=limited,format=yuv420p[film]")
    codec, _, options = FILM
    coding = [part for name, value in options.items() for part in (f"-{name}", value)]
    inputs = [part for path in segments for part in ("-i", str(path))]
    return [
        imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *inputs,
        "-filter_complex", ";".join(chain), "-map", "[film]", "-c:v", codec, *coding,
        "-movflags", "+faststart", str(film),
    ]  # fmt: skip


def _measure(command: Sequence[str]) -> Measured:
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{Path(command[0]).name} ended with {process.returncode}")
    return Measured(wall, used.ru_utime + used.ru_stime, _bytes(used))


def _bytes(used: resource.struct_rusage) -> int:
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _alike(a: Path, b: Path) -> tuple[float, float, tuple[int, int]]:
    """PSNR in dB of two films, mean and worst frame, and how many frames each has."""
    values: list[float] = []
    first, second = read_frames(a), read_frames(b)
    for one in first:
        other = next(second, None)
        if other is None:
            return 0, 0, (len(values) + 1 + sum(1 for _ in first), len(values))
        values.append(psnr(one, other))
    return float(np.mean(values)), min(values), (len(values), len(values) + sum(1 for _ in second))
