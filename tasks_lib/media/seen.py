"""Decoded frames as a person would see them: progressive, in the colours that were meant, of square pixels, upright."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.container import InputContainer
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream

from tasks_lib.engines.base import Frame
from tasks_lib.errors import TaskValidationError

# FFmpeg's scaler is quick and careless by default: every level 1 too low, and 1 to 15 dB lost. Bit-exact is the same
# film, bit for bit, as with accurate rounding, in two thirds of the time.
TO_YUV = Interpolation.AREA | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP
_TO_RGB = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

_HDR: dict[int, str] = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
_WIDE = {ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432}
_UNSPECIFIED = 2
# What players take for high definition, and for BT.709, where a file does not say.
_HD_WIDTH, _HD_HEIGHT = 1280, 577


def decoded(container: InputContainer, name: str) -> Iterator[av.VideoFrame]:
    """Every frame of the first video; interlaced ones as whole pictures, one for one.

    Raises `TaskValidationError` for high dynamic range: shown as it is, it would be grey.
    """
    graph: _Deinterlacer | None = None
    for frame in container.decode(video=0):
        if kind := _HDR.get(frame.color_trc):
            raise TaskValidationError(f"`{name}` is HDR ({kind}); convert it to SDR in BT.709 first")
        if graph is None and frame.interlaced_frame:
            graph = _Deinterlacer(container.streams.video[0])
        yield from [frame] if graph is None else graph.whole(frame)
    if graph is not None:
        yield from graph.whole(None)


def seen_size(frame: av.VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height of a frame as it is seen."""
    size = _square(frame, stream)
    return size[::-1] if frame.rotation % 180 else size


def seen(frame: av.VideoFrame, stream: VideoStream) -> Frame:
    """A frame as H x W x 3 RGB, 8 bits. Transparent parts become black."""
    width, height = _square(frame, stream)
    alpha = any(component.is_alpha for component in frame.format.components)
    wide = frame.color_primaries in _WIDE
    picture = frame.reformat(
        width=width,
        height=height,
        format="rgba" if alpha else "rgb24",
        src_colorspace=_matrix(frame),
        interpolation=_TO_RGB,
        dst_color_primaries=ColorPrimaries.BT709 if wide else None,
        dst_color_trc=ColorTrc.BT709 if wide else None,
        threads=1,
    )
    array = np.asarray(picture.to_ndarray(), np.uint8)
    if alpha:
        array = np.rint(array[..., :3] * (array[..., 3:] / np.float32(255))).astype(np.uint8)
    return np.rot90(array, frame.rotation // 90).copy() if frame.rotation else array


class _Deinterlacer:
    """Makes whole pictures of interlaced ones, as many as there were, and passes others on."""

    def __init__(self, stream: VideoStream) -> None:
        self._graph = Graph()
        source = self._graph.add_buffer(template=stream)
        whole = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(whole)
        whole.link_to(sink)
        self._graph.configure()

    def whole(self, frame: av.VideoFrame | None) -> Iterable[av.VideoFrame]:
        """The pictures that are whole by now; None ends the stream."""
        self._graph.vpush(frame)
        found = []
        while True:
            try:
                found.append(self._graph.vpull())
            except (av.BlockingIOError, av.EOFError):
                return found


def _square(frame: av.VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Size in square pixels; what is too long for its lines becomes wider, and nothing becomes smaller."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio == 1:
        return frame.width, frame.height
    if ratio > 1:
        return round(frame.width * ratio), frame.height
    return frame.width, round(frame.height / ratio)


def _matrix(frame: av.VideoFrame) -> int | None:
    if frame.format.is_rgb or frame.colorspace != _UNSPECIFIED:
        return None
    high = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
    return Colorspace.ITU709 if high else Colorspace.ITU601
