"""Video files: what goes in comes out, is counted by decoding, and appears whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tasks_lib.engines.base import Frame
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.video import probe, read_frames, tail_frames, write_video


def moving(count: int, height: int = 96, width: int = 128) -> list[Frame]:
    """A smooth coloured picture that moves."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    picture = cv2.resize(noise, (width + count, height), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(picture[:, i : i + width]) for i in range(count)]


def psnr(a: Frame, b: Frame) -> float:
    return float(10 * np.log10(255**2 / np.mean(np.square(a.astype(float) - b.astype(float)))))


def test_frames_are_equal_bit_for_bit_when_written_lossless(tmp_path: Path) -> None:
    frames = moving(9, height=95, width=127)
    assert write_video(tmp_path / "s.mp4", frames, 16, lossless=True) == 9
    assert all(np.array_equal(a, b) for a, b in zip(read_frames(tmp_path / "s.mp4"), frames, strict=True))


def test_film_is_plain_h264_in_true_colours_when_encoded_for_people(tmp_path: Path) -> None:
    frames = moving(30)
    path = tmp_path / "film.mp4"
    write_video(path, frames, 24000 / 1001, lossless=False)
    assert min(psnr(a, b) for a, b in zip(read_frames(path), frames, strict=True)) >= 40
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index stands in front"


def test_facts_are_decoded_when_a_file_is_probed(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, moving(17), 24000 / 1001, lossless=False)
    facts = probe(path)
    assert (facts.width, facts.height, facts.frames, facts.codec) == (128, 96, 17, "h264")
    assert facts.fps == pytest.approx(24000 / 1001)
    assert facts.duration == pytest.approx(17 * 1001 / 24000)
    assert facts.bytes == path.stat().st_size
    assert facts.as_dict()["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_frames_are_counted_by_decoding_when_the_container_counts_none(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=16)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "bgr0"
        for frame in moving(11):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert probe(path).frames == 11


def test_tail_is_given_when_long_enough_and_refused_when_not(tmp_path: Path) -> None:
    frames = moving(6)
    write_video(tmp_path / "s.mp4", frames, 16, lossless=True)
    assert all(np.array_equal(a, b) for a, b in zip(tail_frames(tmp_path / "s.mp4", 4), frames[2:], strict=True))
    with pytest.raises(TaskValidationError, match="6 frames; 7"):
        tail_frames(tmp_path / "s.mp4", 7)


def test_nothing_is_left_behind_when_the_frames_fail_midway(tmp_path: Path) -> None:
    def failing() -> Iterator[Frame]:
        yield from moving(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_video(tmp_path / "film.mp4", failing(), 16, lossless=False)
    assert list(tmp_path.iterdir()) == []


def test_film_is_refused_when_its_size_is_odd_its_frames_differ_or_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(TaskValidationError, match="127 x 96"):
        write_video(path, moving(2, width=127), 16, lossless=False)
    with pytest.raises(EngineError, match="frame 3"):
        write_video(path, moving(2) + moving(1, height=64), 16, lossless=False)
    with pytest.raises(EngineError, match="no frames"):
        write_video(path, [], 16, lossless=False)


def test_file_is_refused_when_it_is_no_video_or_points_elsewhere(tmp_path: Path) -> None:
    write_video(tmp_path / "real.mp4", moving(3), 16, lossless=False)
    text, playlist = tmp_path / "text.mp4", tmp_path / "list.mp4"
    text.write_text("no video")
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/real.mp4\n#EXT-X-ENDLIST\n")
    for path in (text, playlist, tmp_path / "absent.mp4"):
        with pytest.raises(TaskValidationError, match=path.name):
            probe(path)


def test_frames_are_upright_when_the_file_says_it_lies(tmp_path: Path) -> None:
    frames = moving(3)
    flat, turned = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
    write_video(flat, frames, 16, lossless=True)
    content = flat.read_bytes()
    # The track's display matrix, as a phone writes it: a quarter turn clockwise.
    unit, none, w = b"\x00\x01\x00\x00", b"\x00" * 4, b"\x40\x00\x00\x00"
    start = content.index(b"tkhd")
    place = content.index(unit + none * 3 + unit + none * 3 + w, start)
    matrix = none + unit + none + b"\xff\xff\x00\x00" + none * 4 + w
    turned.write_bytes(content[:place] + matrix + content[place + len(matrix) :])
    assert (probe(turned).width, probe(turned).height) == (96, 128)
    assert np.array_equal(next(read_frames(turned)), np.rot90(frames[0], -1))
