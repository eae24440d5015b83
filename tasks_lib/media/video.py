"""Video in and out (PyAV), one frame in memory at a time."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tasks_lib.engines.base import Frame
from tasks_lib.errors import EngineError, TaskValidationError
from tasks_lib.media.seen import TO_YUV, decoded, seen, seen_size
from tasks_lib.settings import get_settings

# x264's lossless RGB: bit-exact, three times as fast as FFV1 here and as small (49 frames of 640 x 360: 0.4 s, 13 MB).
_SEGMENT = ("libx264rgb", "rgb24", {"qp": "0", "preset": "ultrafast"})
# High profile 4:2:0 plays everywhere; at CRF 12 photographs lose less to x264 than to 4:2:0 itself. The scaler takes
# chroma from the middle of its four pixels, so the file says so (`chromaloc`): untrue, it costs up to 11 dB.
FILM = ("libx264", "yuv420p", {"crf": "12", "preset": "fast", "x264-params": "chromaloc=1"})
_BT709 = 1
_SOUND_BITS = 192_000
_SLACK_SECONDS = 0.25

# FFmpeg would follow the addresses inside a playlist: only containers that hold their own pixels are opened.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,gif"
_MAX_STREAMS = 16

Picture = Frame | av.VideoFrame
"""One picture, as an array or as the decoder left it: RGB in either case."""
Samples = NDArray[np.float32]
"""Sound, 2 x n: left and right, SOUND_RATE of each in a second, from -1 to 1."""
SOUND_RATE = 48_000


@dataclass(frozen=True)
class MediaFacts:
    """What a video file is, found by decoding it. `duration` is in seconds, `bytes` the size of the file."""

    width: int
    height: int
    fps: float
    frames: int
    duration: float
    codec: str
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return asdict(self)


def write_video(
    path: Path, frames: Iterable[Picture], fps: float, *, lossless: bool, sound: Iterable[Samples] | None = None
) -> int:
    """Encode RGB frames as MP4 and return how many there were. `sound` gives for each frame what is heard with it.

    Lossless is for segments that will be stitched; otherwise H.264 4:2:0, BT.709, index in front, of even size.
    The file appears whole or not at all, even when `frames` raises. Raises `EngineError` for no frames or a frame
    of another size, `TaskValidationError` for an odd size.
    """
    source = map(_as_video_frame, frames)
    first = next(source, None)
    if first is None:
        raise EngineError(f"`{path.name}` would have no frames")
    if not lossless and (first.height % 2 or first.width % 2):
        raise TaskValidationError(
            f"a film of {first.width} x {first.height} cannot be encoded; width and height must be even"
        )
    partial = path.with_name(f".{path.name}.partial")
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as output:
            count = _encode(output, chain([first], source), fps, _SEGMENT if lossless else FILM, sound)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_frames(path: Path) -> Iterator[Frame]:
    """Every frame as H x W x 3 RGB, upright, in order. Raises `TaskValidationError` for what is not a video."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        for frame in decoded(container, path.name):
            yield seen(frame, stream)


def read_pictures(path: Path) -> Iterator[av.VideoFrame]:
    """The same, and lossless segments are not copied: good for what goes on into another file."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        for frame in decoded(container, path.name):
            yield frame if frame.format.name == "gbrp" else _as_video_frame(seen(frame, stream))


def planes(picture: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Green, blue and red of a decoded lossless picture, each H x W: its memory itself, not a copy."""
    each = ((np.frombuffer(memoryview(plane), np.uint8), plane) for plane in picture.planes)
    return [memory.reshape(-1, plane.line_size)[:, : plane.width] for memory, plane in each]


def of_planes(gbr: Sequence[NDArray[np.uint8]]) -> av.VideoFrame:
    """A picture of green, blue and red, each H x W, which it keeps and does not copy."""
    height, width = gbr[0].shape
    return av.VideoFrame.from_dlpack(tuple(gbr), "gbrp", width, height)


def tail_frames(path: Path, n: int) -> list[Frame]:
    """The last n frames. Raises `TaskValidationError` if there are fewer."""
    tail = deque(read_frames(path), maxlen=n)
    if len(tail) < n:
        raise TaskValidationError(f"`{path.name}` has {len(tail)} frames; {n} are needed")
    return list(tail)


def count_packets(path: Path) -> int:
    """How many frames the file seems to have, without decoding: good enough for a progress bar."""
    with _opened(path) as container:
        told = container.streams.video[0].frames
        return told or sum(packet.size > 0 for packet in container.demux(video=0))


def check_length(path: Path) -> None:
    """Refuse a clip from outside that has more frames than the settings allow, before one is decoded.

    Raises `TaskValidationError`.
    """
    allowed = get_settings().video_frames
    with _opened(path) as container:
        packets = (packet for packet in container.demux(video=0) if packet.size)
        if next(islice(packets, allowed, None), None) is not None:
            raise TaskValidationError(f"`{path.name}` has more than {allowed} frames")


def probe(path: Path) -> MediaFacts:
    """Decode the whole file and state what it is; a count in the header is never believed."""
    return probe_times(path)[0]


def probe_times(path: Path) -> tuple[MediaFacts, list[float]]:
    """The same, and when each frame begins in the file's own time, and last when the clip ends, in seconds.

    The rate of a clip whose frames do not come evenly is their mean one.
    """
    times: list[float] = []
    with _opened(path) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate or stream.guessed_rate or Fraction(0)
        usual = float(1 / fps) if fps else 0.0
        end = 0.0
        for frame in decoded(container, path.name):
            # PyAV's stub says that every frame has a time.
            begin: float | None = frame.time
            times.append(max([end if begin is None else begin, *times[-1:]]))
            end = times[-1] + (float(frame.duration * (stream.time_base or 0)) or usual)
            width, height = seen_size(frame, stream)
        codec = stream.codec_context.name
        _check_whole(container, path, end)
    if not times or not fps or end <= times[0]:
        raise TaskValidationError(f"`{path.name}` has {len(times)} frames at a rate of {fps}")
    duration, rate = end - times[0], float(fps)
    if abs(duration * rate - len(times)) > 1:
        rate = len(times) / duration
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = MediaFacts(width, height, rate, len(times), len(times) / rate, codec, path.stat().st_size, digest)
    return facts, [*times, end]


def _check_whole(container: InputContainer, path: Path, end: float) -> None:
    """Refuse a file that was cut off: FFmpeg reads what is there, and says nothing of what is not.

    A transport stream may begin and end anywhere; it passes.
    """
    size = path.stat().st_size
    for stream in container.streams:
        # MP4 and MOV say in front where everything lies.
        if any(entry.pos + entry.size > size for entry in stream.index_entries):
            raise TaskValidationError(f"`{path.name}` is cut off: it has {size} bytes and should have more")
    # Matroska says how long it lasts, with what lasts longest in it.
    told = (container.duration or 0) / av.time_base - _SLACK_SECONDS
    if "matroska" not in container.format.name or end >= told:
        return
    container.seek(0)
    for packet in container.demux():
        if packet.pts is not None and packet.time_base:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if end < told:
        raise TaskValidationError(f"`{path.name}` is cut off: it lasts {end:.2f} s and should last longer")


def _encode(
    output: OutputContainer,
    frames: Iterable[av.VideoFrame],
    fps: float,
    form: tuple[str, str, dict[str, str]],
    sound: Iterable[Samples] | None,
) -> int:
    codec, pixels, options = form
    rate = Fraction(fps).limit_denominator(1001)
    stream = output.add_stream(codec, rate=rate, options=options)
    assert isinstance(stream, VideoStream)
    stream.pix_fmt = pixels
    # PyAV's default cuts each picture into slices: they wait for one another, and compress worse.
    stream.codec_context.thread_type = "FRAME"
    converter = VideoReformatter()
    voice = None if sound is None else _Sound(output, iter(sound))
    count = 0
    for count, frame in enumerate(frames, start=1):
        if count == 1:
            stream.width, stream.height = frame.width, frame.height
            if pixels != "rgb24":
                _tag_bt709(stream)
        elif (frame.width, frame.height) != (stream.width, stream.height):
            sizes = f"{frame.width} x {frame.height}; the first had {stream.width} x {stream.height}"
            raise EngineError(f"frame {count} has the size {sizes}")
        if pixels == "rgb24":
            frame = converter.reformat(frame, format=pixels)
        else:
            if frame.format.name == "gbrp":
                # A decoder says where colours stand between pixels, and the scaler would put the film's there too: not
                # where the film's tag says, which costs more than 1 dB. Of bare planes nothing is said.
                frame = of_planes(planes(frame))
            # Both the samples and the tags: a file that says one matrix and holds another shifts its colours.
            frame = converter.reformat(
                frame,
                format=pixels,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=TO_YUV,
                threads=1,
            )
        # What a decoder wrote there would rule this encoder: its times, and where key frames stand.
        frame.pts, frame.time_base, frame.pict_type = count - 1, 1 / rate, PictureType.NONE
        output.mux(stream.encode(frame))
        if voice:
            voice.go_on()
    output.mux(stream.encode(None))
    if voice:
        voice.end()
    return count


class _Sound:
    """The sound of a film while that is encoded: AAC, drawn frame by frame beside the pictures."""

    def __init__(self, output: OutputContainer, source: Iterator[Samples]) -> None:
        stream = output.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        assert isinstance(stream, AudioStream)
        stream.bit_rate = _SOUND_BITS
        self._output, self._stream, self._source = output, stream, source
        self._done = 0

    def go_on(self) -> None:
        """Encode what is heard with one frame."""
        samples = next(self._source)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._done, Fraction(1, SOUND_RATE)
        self._done += samples.shape[1]
        self._output.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Encode what is still held."""
        self._output.mux(self._stream.encode(None))


def _as_video_frame(picture: Picture) -> av.VideoFrame:
    if isinstance(picture, av.VideoFrame):
        return picture
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def _tag_bt709(stream: VideoStream) -> None:
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG


@contextmanager
def open_container(path: Path, formats: str) -> Iterator[InputContainer]:
    """A file of one of FFmpeg's formats, whose decoders refuse pictures of more pixels than the settings allow.

    Raises `TaskValidationError` for what cannot be read, in the block too.
    """
    # The decoders themselves refuse larger frames: opening decodes some, and a later one may have another size than
    # the header says. A few hundred bytes can unfold to gigabytes.
    # PyAV's stub says that they are texts.
    each: list[Any] = [_bounded()] * _MAX_STREAMS
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    try:
        with av.open(str(path.resolve()), options=options, stream_options=each) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        raise TaskValidationError(f"`{path.name}` cannot be read: {error.strerror}") from error


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    with open_container(path, _FORMATS) as container:
        if not container.streams.video:
            raise TaskValidationError(f"`{path.name}` holds no video")
        stream = container.streams.video[0]
        allowed = get_settings().video_pixels
        ratio = stream.sample_aspect_ratio or Fraction(1)
        if stream.width * stream.height * max(ratio, 1 / ratio) > allowed:
            size = f"{stream.width} x {stream.height}" + (f" with pixels of {ratio}" if ratio != 1 else "")
            raise TaskValidationError(f"`{path.name}` is too large: frames of {size}; at most {allowed} pixels")
        stream.codec_context.options = _bounded()
        stream.codec_context.thread_type = "AUTO"
        yield container


def _bounded() -> dict[str, str]:
    return {"max_pixels": str(get_settings().video_pixels)}
