"""What the simulated provider makes: one small picture, and one small clip."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tasks_lib.media.video import write_video
from tasks_lib.providers.simulator.wire import Answer


def file_answer(name: str) -> Answer:
    """A result by the end of its name."""
    return Answer(200, clip(), "video/mp4") if name.endswith(".mp4") else Answer(200, picture(), "image/png")


@cache
def picture() -> bytes:
    """A PNG of 64 by 64."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@cache
def clip() -> bytes:
    """An MP4 of nine frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        frames = (np.full((64, 64, 3), 20 * i, np.uint8) for i in range(9))
        write_video(path, frames, 16, lossless=False)
        return path.read_bytes()
