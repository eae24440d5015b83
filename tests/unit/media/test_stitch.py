"""Joints: how many frames a film has, and what stands where segments meet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks_lib.engines.base import Cancelled, Frame
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media import video
from tasks_lib.media.quality import psnr
from tasks_lib.media.sheet import contact_sheet
from tasks_lib.media.stitch import Mode, Part, crossfade_weights, stitch
from tasks_lib.media.video import probe, read_frames, write_video


def flat(level: float) -> Frame:
    return np.full((64, 96, 3), round(level), np.uint8)


def write(folder: Path, segments: list[list[float]]) -> list[Path]:
    """Each segment is given by the grey level of its frames."""
    paths = [folder / f"{i}.mp4" for i in range(len(segments))]
    for path, levels in zip(paths, segments, strict=True):
        write_video(path, [flat(level) for level in levels], 16, lossless=True)
    return paths


def join(folder: Path, segments: list[list[float]], overlaps: list[int], mode: Mode) -> list[float]:
    """The mean level of every frame of the film."""
    film = folder / "film.mp4"
    count = stitch(
        [Part.of(path) for path in write(folder, segments)],
        overlaps,
        film,
        16,
        mode=mode,
        on_progress=lambda _step, _total: None,
        cancelled=lambda: False,
    )
    levels = [float(frame.mean()) for frame in read_frames(film)]
    assert count == len(levels) == probe(film).frames
    return levels


def test_shared_keyframe_is_written_once_when_independent_segments_do_not_overlap(tmp_path: Path) -> None:
    levels = join(tmp_path, [[0, 20, 40], [40, 60, 80], [80, 100, 120]], [0, 0], "independent")
    assert levels == pytest.approx([0, 20, 40, 60, 80, 100, 120], abs=2)


def test_joint_is_crossfaded_when_independent_segments_overlap(tmp_path: Path) -> None:
    levels = join(tmp_path, [[40] * 8, [200] * 9, [100] * 5], [4, 0], "independent")
    assert len(levels) == 8 + 9 + 5 - 4 - 1
    faded = [40 + 160 * weight for weight in crossfade_weights(4)]
    assert levels == pytest.approx([40] * 4 + faded + [200] * 5 + [100] * 4, abs=2)


def test_film_is_as_true_from_segments_as_from_their_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    pictures = [np.asarray(noise.rotate(i).resize((160, 120), Image.Resampling.BICUBIC), np.uint8) for i in range(9)]
    segment, film, direct = (tmp_path / name for name in ("segment.mp4", "film.mp4", "direct.mp4"))
    write_video(segment, pictures, 16, lossless=True)
    write_video(direct, pictures, 16, lossless=False)
    parts = [Part.of(segment)]
    stitch(parts, [], film, 16, mode="chained", on_progress=lambda *_: None, cancelled=lambda: False)

    def truth(path: Path) -> float:
        return float(np.mean([psnr(a, b) for a, b in zip(read_frames(path), pictures, strict=True)]))

    assert truth(film) == pytest.approx(truth(direct), abs=0.2)


def test_film_has_the_same_colours_when_its_pictures_come_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the very same pictures x264's macroblock tree makes films that differ by 42 dB, now and then.
    codec, pixels, options = video.FILM
    settled = {**options, "x264-params": f"{options['x264-params']}:mbtree=0"}
    monkeypatch.setattr(video, "FILM", (codec, pixels, settled))
    rng = np.random.default_rng(4)
    clips = [[rng.integers(0, 256, (54, 70, 3), np.uint8) for _ in range(7)] for _ in range(2)]
    paths = [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    for path, clip in zip(paths, clips, strict=True):
        write_video(path, clip, 16, lossless=True)
    mixed = [Part(iter(clips[0]), 7), Part.of(paths[1])]
    films = []
    for parts in ([Part(iter(clip), 7) for clip in clips], mixed, [Part.of(path) for path in paths]):
        film = tmp_path / "film.mp4"
        stitch(parts, [3], film, 16, mode="chained", on_progress=lambda *_: None, cancelled=lambda: False)
        films.append(list(read_frames(film)))
    for film_frames in films[1:]:
        assert min(psnr(a, b) for a, b in zip(films[0], film_frames, strict=True)) > 45


def test_film_has_the_sum_of_what_was_asked_when_chained(tmp_path: Path) -> None:
    segments: list[list[float]] = [[10, 30, 50, 70, 90], [70, 90, 110, 130, 150, 170, 190], [180, 160, 140]]
    levels = join(tmp_path, segments, [2, 0], "chained")
    assert levels == pytest.approx([10, 30, 50, 70, 90, 110, 130, 150, 170, 190, 180, 160, 140], abs=2)


def test_overlaps_may_touch_when_a_segment_is_all_overlap(tmp_path: Path) -> None:
    levels = join(tmp_path, [[0] * 4, [100] * 4, [200] * 4], [2, 2], "independent")
    weights = crossfade_weights(2)
    first, second = [100 * w for w in weights], [100 + 100 * w for w in weights]
    assert levels == pytest.approx([0, 0, *first, *second, 200, 200], abs=2)


def test_weights_rise_evenly_round_one_half_when_faded() -> None:
    weights = crossfade_weights(8)
    assert weights == sorted(weights)
    assert weights[0] + weights[-1] == pytest.approx(1)
    assert 0 < weights[0] < 1 / 9
    assert crossfade_weights(1) == [pytest.approx(0.5)]


def test_stitch_stops_within_one_frame_and_leaves_nothing_when_cancelled(tmp_path: Path) -> None:
    paths = write(tmp_path, [[0] * 9, [9] * 9])
    steps: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        stitch(
            [Part.of(path) for path in paths],
            [0],
            tmp_path / "film.mp4",
            16,
            mode="independent",
            on_progress=lambda step, total: steps.append((step, total)),
            cancelled=lambda: len(steps) == 5,
        )
    assert steps == [(i, 17) for i in range(1, 6)]
    assert set(tmp_path.iterdir()) == set(paths)


STITCHES = """
import resource, sys
from pathlib import Path
from tasks_lib.media.stitch import Part, stitch
parts = [Part.of(Path(path)) for path in sys.argv[2:]]
stitch(parts, [4] * (len(parts) - 1), Path(sys.argv[1]), 16, mode="independent",
       on_progress=lambda *_: None, cancelled=lambda: False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10))
"""


def test_memory_stays_when_the_film_is_twice_as_long(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (270, 560, 3), np.uint8)
    segment = tmp_path / "segment.mp4"
    write_video(segment, [np.ascontiguousarray(noise[:, i : i + 480]) for i in range(60)], 16, lossless=True)

    def peak(count: int) -> int:
        command = [sys.executable, "-c", STITCHES, str(tmp_path / "film.mp4"), *[str(segment)] * count]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # The pictures that the longer film has more would take 130 MiB.
    assert peak(12) - peak(6) < 24


@pytest.mark.parametrize("overlaps", [[], [0, 0], [-1]])
def test_overlaps_are_refused_when_they_do_not_fit_the_segments(tmp_path: Path, overlaps: list[int]) -> None:
    with pytest.raises(TaskValidationError, match="overlaps") as refused:
        join(tmp_path, [[0] * 3, [9] * 3], overlaps, "independent")
    assert refused.value.field == "overlaps"


@pytest.mark.parametrize("lengths", [(3, 8), (8, 3)])
def test_segment_is_named_when_it_is_shorter_than_its_overlap(tmp_path: Path, lengths: tuple[int, int]) -> None:
    with pytest.raises(EngineError, match=f"segment {lengths.index(3)} has 3 frames"):
        join(tmp_path, [[0] * n for n in lengths], [4], "independent")


def test_contact_sheet_is_a_png_with_marked_keyframes_when_drawn(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", [flat(4 * i) for i in range(40)], 16, lossless=False)
    sheet = tmp_path / "sheet.png"
    contact_sheet(tmp_path / "film.mp4", sheet, columns=4, rows=3, marks=[0, 17, 39])
    with Image.open(sheet) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width == 1200
        colours = image.getcolors(maxcolors=1 << 20)
    assert colours is not None
    border = sum(count for count, colour in colours if colour == (255, 180, 84))
    assert border > 3 * 4 * 500, "three frames with a border of four pixels"


def test_contact_sheet_is_smaller_when_the_film_has_fewer_frames_than_cells(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", [flat(99)] * 2, 16, lossless=False)
    contact_sheet(tmp_path / "film.mp4", tmp_path / "sheet.png", columns=4, rows=3, marks=[0])
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.height < 300
