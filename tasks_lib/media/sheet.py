"""The contact sheet and the poster: a film at one glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tasks_lib.media import images
from tasks_lib.media.video import count_packets, read_frames

_WIDTH = 1200
_GAP = 10
_CAPTION = 22
_PAPER, _INK, _ACCENT = "#16181d", "#aab2bf", "#ffb454"


def contact_sheet(video: Path, output_png: Path, *, columns: int = 5, rows: int = 4, marks: Sequence[int] = ()) -> None:
    """Draw a grid of evenly spaced frames with their numbers, about 1200 px wide.

    The frames in `marks` (keyframes) are always among them, with a border. A film with fewer frames than cells
    fills fewer. Raises `TaskValidationError` for what is not a video.
    """
    chosen = _choose(count_packets(video), columns * rows, marks)
    width = (_WIDTH - _GAP) // columns - _GAP
    cells: list[tuple[int, Image.Image]] = []
    for number, frame in enumerate(read_frames(video)):
        if number in chosen:
            height = round(frame.shape[0] * width / frame.shape[1])
            cells.append((number, Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)))
    height = cells[0][1].height
    lines = -(-len(cells) // columns)
    sheet = Image.new("RGB", (_WIDTH, _GAP + lines * (height + _CAPTION + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=14)
    for place, (number, picture) in enumerate(cells):
        left = _GAP + place % columns * (width + _GAP)
        top = _GAP + place // columns * (height + _CAPTION + _GAP)
        marked = number in marks
        sheet.paste(picture, (left, top))
        if marked:
            draw.rectangle((left - 4, top - 4, left + width + 3, top + height + 3), outline=_ACCENT, width=4)
        label = f"{number} · keyframe" if marked else str(number)
        draw.text((left + 2, top + height + 5), label, _ACCENT if marked else _INK, font)
    sheet.save(output_png, format="PNG")


def _choose(total: int, cells: int, marks: Sequence[int]) -> set[int]:
    """Evenly spaced frame numbers, the nearest of which give way to the marks."""
    cells = min(cells, total)
    spaced = [round(i * (total - 1) / max(cells - 1, 1)) for i in range(cells)]
    for mark in (m for m in marks if 0 <= m < total):
        free = [i for i, number in enumerate(spaced) if number not in marks or number == mark]
        if mark not in spaced and free:
            spaced[min(free, key=lambda i: abs(spaced[i] - mark))] = mark
    return set(spaced)


def save_poster(video: Path, output_jpeg: Path) -> Path:
    """The first frame of a video as a small JPEG, for lists. Raises `TaskValidationError` for what is not a video."""
    images.save_preview(output_jpeg, next(read_frames(video)))
    return output_jpeg


def save_preview(sheet: Path, output_jpeg: Path) -> Path:
    """A contact sheet as a JPEG that is small enough to be carried inside a page."""
    with Image.open(sheet) as image:
        image.convert("RGB").save(output_jpeg, quality=75)
    return output_jpeg
