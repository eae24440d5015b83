"""Clips of other makers: what they mean is shown, or they are refused; nothing is shown wrong or shorter in silence."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from tasks_lib.engines.base import Frame
from tasks_lib.errors import TaskValidationError
from tasks_lib.media.clips import Form, open_clip
from tasks_lib.media.video import probe, read_frames
from tasks_lib.settings import get_settings

COLOURS = [(200, 30, 40), (20, 180, 60), (30, 50, 210), (128, 128, 128)]
UNSPECIFIED, BT709, BT470BG, SMPTE170M, BT2020 = 2, 1, 5, 6, 9
PQ, HLG, BT2020_10 = 16, 18, 14
SCALER_NAMES = {BT709: Colorspace.ITU709, BT470BG: Colorspace.ITU601, SMPTE170M: Colorspace.ITU601}
SCALER_NAMES |= {BT2020: Colorspace.BT2020}


def stripes(width: int = 128, height: int = 96, colours: Sequence[Sequence[int]] = COLOURS) -> Frame:
    """Upright bands of the colours, equally wide."""
    bands = np.repeat(np.asarray(colours, np.uint8), -(-width // len(colours)), axis=0)[:width]
    return np.ascontiguousarray(np.broadcast_to(bands, (height, width, 3)))


def middles(frame: Frame) -> list[list[int]]:
    """The colours in the middle of four bands."""
    height, width = frame.shape[:2]
    return [frame[height // 2, width * (2 * i + 1) // 8].tolist() for i in range(4)]


def near(found: Sequence[Sequence[int]], meant: Sequence[Sequence[int]], within: int = 3) -> bool:
    return int(np.abs(np.asarray(found, int) - np.asarray(meant, int)).max()) <= within


def write(
    path: Path,
    frames: Sequence[Frame],
    *,
    codec: str = "ffv1",
    pixels: str = "yuv420p",
    matrix: int = BT709,
    full: bool = False,
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    times: Sequence[float] | None = None,
    ratio: Fraction | None = None,
) -> Path:
    """A clip whose samples are in a matrix and range, with the tags of a codec's context that are given."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=16, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        context = stream.codec_context
        if ratio:
            context.sample_aspect_ratio = ratio
        if times:
            context.time_base = Fraction(1, 1000)
        for name, value in (tags if tags is not None else {"colorspace": matrix, "color_range": 1 + full}).items():
            setattr(context, name, value)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24" if picture.shape[2] == 3 else "rgba")
            frame = frame.reformat(
                format=pixels,
                dst_colorspace=SCALER_NAMES.get(matrix),
                dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            )
            if times:
                frame.pts, frame.time_base = round(1000 * times[i]), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT709, BT470BG, SMPTE170M, BT2020])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p10le"])
def test_colours_are_those_that_were_meant_when_a_clip_names_its_matrix_and_range(
    tmp_path: Path, pixels: str, matrix: int, full: bool
) -> None:
    path = write(tmp_path / "a.mkv", [stripes()], pixels=pixels, matrix=matrix, full=full)
    assert near(middles(next(read_frames(path))), COLOURS)


@pytest.mark.parametrize(("size", "matrix"), [((320, 240), BT470BG), ((1280, 720), BT709)])
def test_matrix_is_the_players_guess_when_a_clip_names_none(tmp_path: Path, size: tuple[int, int], matrix: int) -> None:
    path = write(tmp_path / "a.mp4", [stripes(*size)], codec="libx264", matrix=matrix, tags={}, options={"qp": "0"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == UNSPECIFIED
    assert near(middles(next(read_frames(path))), COLOURS)


def test_colours_are_brought_to_bt709_when_a_clip_has_a_wider_gamut(tmp_path: Path) -> None:
    wider = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = (np.asarray(COLOURS) / 255) ** 2.4 @ wider.T
    sent = np.rint(255 * light ** (1 / 2.4)).astype(np.uint8)
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": BT2020_10, "color_range": 1}
    path = write(tmp_path / "a.mkv", [stripes(colours=sent.tolist())], pixels="yuv420p10le", matrix=BT2020, tags=tags)
    assert not near(sent.tolist(), COLOURS, 90), "untouched they would be wrong"
    assert near(middles(next(read_frames(path))), COLOURS, 20), "as near as the scaler's table comes"


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_clip_is_refused_by_name_when_it_is_hdr(tmp_path: Path, transfer: int, name: str) -> None:
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": transfer, "color_range": 1}
    path = write(tmp_path / "hdr.mkv", [stripes()], pixels="yuv420p10le", matrix=BT2020, tags=tags)
    for read in (probe, lambda path: next(read_frames(path))):
        with pytest.raises(TaskValidationError, match=rf"`hdr\.mkv` is HDR \({name}\)"):
            read(path)


def test_pictures_are_whole_and_as_many_when_a_clip_is_interlaced(tmp_path: Path) -> None:
    def at(x: int) -> Frame:
        picture = np.full((96, 128, 3), 40, np.uint8)
        picture[:, x : x + 24] = 200
        return picture

    woven = [at(8 * i) for i in range(12)]
    for i, picture in enumerate(woven):
        picture[1::2] = at(8 * i + 4)[1::2]
    path = write(
        tmp_path / "a.mp4",
        woven,
        codec="libx264",
        options={"qp": "0", "flags": "+ildct+ilme", "x264-params": "tff=1"},
        pixels="yuv444p",
    )
    shown = list(read_frames(path))
    assert len(shown) == probe(path).frames == 12

    def comb(frame: Frame) -> float:
        return float(np.abs(frame[2:-2:2].astype(int) - frame[3:-1:2]).mean())

    assert comb(woven[6]) > 8
    assert max(comb(frame) for frame in shown[1:-1]) < 2


@pytest.mark.parametrize(("ratio", "size"), [(Fraction(2), (256, 96)), (Fraction(1, 2), (128, 192))])
def test_pixels_are_square_when_those_of_a_clip_are_not(tmp_path: Path, ratio: Fraction, size: tuple[int, int]) -> None:
    path = write(tmp_path / "a.mp4", [stripes()] * 2, codec="libx264", options={"qp": "0"}, ratio=ratio)
    facts = probe(path)
    assert (facts.width, facts.height) == size
    (frame, _) = read_frames(path)
    assert frame.shape == (size[1], size[0], 3)
    assert near(middles(frame), COLOURS)


def test_clip_is_refused_when_square_pixels_would_make_it_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", [stripes()] * 2, codec="libx264", ratio=Fraction(2))
    monkeypatch.setenv("UNITASK_VIDEO_PIXELS", "20000")
    get_settings.cache_clear()
    try:
        with pytest.raises(TaskValidationError, match="128 x 96 with pixels of 2; at most 20000"):
            probe(path)
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


def test_transparent_parts_are_black_when_a_clip_has_alpha(tmp_path: Path) -> None:
    picture = np.dstack([stripes(), np.full((96, 128), 255, np.uint8)])
    picture[:48, :, 3] = 0
    path = write(tmp_path / "a.mkv", [picture], pixels="bgra", tags={})
    frame = next(read_frames(path))
    assert frame[:40].max() == 0
    assert near([frame[80, 128 * (2 * i + 1) // 8].tolist() for i in range(4)], COLOURS)


def test_last_line_and_column_are_kept_when_a_size_is_odd(tmp_path: Path) -> None:
    frame = next(read_frames(write(tmp_path / "a.mkv", [stripes(127, 95)])))
    assert frame.shape == (95, 127, 3)
    assert near([frame[94, 126].tolist()], COLOURS[-1:])


def test_frames_stand_where_their_times_say_when_they_do_not_come_evenly(tmp_path: Path) -> None:
    times = [5.0, 5.1, 5.2, 5.3, 6.3, 6.4, 6.5, 6.6]
    levels = [np.full((96, 128, 3), 30 * i, np.uint8) for i in range(8)]
    path = write(tmp_path / "a.mkv", levels, pixels="bgr0", tags={}, times=times)
    facts = probe(path)
    assert facts.frames == 8
    assert facts.duration == pytest.approx(1.65, abs=0.06)
    clip = open_clip(path, Form(128, 96, 10))
    shown = [int(frame[0, 0, 0]) // 30 for frame in clip.frames(0, clip.count)]
    assert shown[:16] == [0, 1, 2, *[3] * 10, 4, 5, 6]
    assert (clip.begin, len(shown)) == (5.0, 17)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("front.mp4", "libx264", {"movflags": "+faststart"}),
        ("front.mov", "libx264", {"movflags": "+faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.avi", "libx264", {}),
    ],
)
def test_clip_is_refused_when_it_was_cut_off(tmp_path: Path, name: str, codec: str, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0)
    path = tmp_path / name
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream(codec, rate=16)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(32):
            picture = noise.integers(0, 256, (96, 128, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    assert probe(path).frames == 32
    content = path.read_bytes()
    for share in (0.5, 0.8):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(TaskValidationError, match=rf"`{name}` (is cut off|cannot be read)"):
            probe(path)
