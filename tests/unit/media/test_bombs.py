"""Clips that would unfold to more than the settings allow: refused before, or at, the frame that is too large."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from tasks_lib.errors import TaskValidationError
from tasks_lib.media.clips import Form, open_clip
from tasks_lib.media.video import count_packets, probe, read_frames
from tasks_lib.settings import Settings, get_settings

SMALL, LARGE = 64, 1024


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At most a hundred frames of a quarter of a megapixel."""
    monkeypatch.setenv("UNITASK_VIDEO_PIXELS", "250000")
    monkeypatch.setenv("UNITASK_VIDEO_FRAMES", "100")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def black(path: Path, side: int, frames: int = 1) -> Path:
    """A clip of black frames, which takes a few bytes for each."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=16, options={"preset": "ultrafast", "qp": "40"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(side, side, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for i in range(frames):
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_clip_is_refused_when_its_frames_are_too_large(tmp_path: Path, name: str) -> None:
    path = black(tmp_path / name, LARGE)
    assert path.stat().st_size < LARGE * LARGE / 50
    for read in (probe, count_packets, lambda path: next(read_frames(path))):
        with pytest.raises(TaskValidationError, match=name):
            read(path)


def test_clip_is_refused_by_default_when_it_claims_more_than_eight_thousand_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNITASK_VIDEO_PIXELS")
    get_settings.cache_clear()
    path = black(tmp_path / "a.mp4", 5800)
    start = time.process_time()
    with pytest.raises(TaskValidationError, match=rf"5800 x 5800; at most {Settings().video_pixels} pixels"):
        probe(path)
    assert time.process_time() - start < 0.3, "nothing was decoded"


def test_clip_is_refused_when_a_later_frame_is_larger_than_the_first(tmp_path: Path) -> None:
    small, large = black(tmp_path / "small.ts", SMALL, 20), black(tmp_path / "large.ts", LARGE, 20)
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    seen: set[int] = set()
    with pytest.raises(TaskValidationError, match=r"both\.ts"):
        seen.update(frame.shape[1] for frame in read_frames(both))
    assert seen == {SMALL}


def test_clip_is_refused_when_it_is_too_long_and_taken_when_it_is_not(tmp_path: Path) -> None:
    long, short = black(tmp_path / "long.mp4", SMALL, 101), black(tmp_path / "short.mp4", SMALL, 100)
    for take in (lambda path: Form.of(path, None, None), lambda path: open_clip(path, Form(64, 64, 16))):
        with pytest.raises(TaskValidationError, match=r"long\.mp4` has more than 100 frames"):
            take(long)
    assert open_clip(short, Form.of(short, None, None)).count == 100
