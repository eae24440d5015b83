"""Still images in and out (Pillow)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks_lib.engines.base import Frame
from tasks_lib.errors import TaskValidationError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000
"""More is refused before it is decoded: 64 million pixels take 192 MB."""


def load_image(path: Path, width: int, height: int) -> Frame:
    """Read an image upright, cut its middle to the aspect of the frame, resize (Lanczos): height x width x 3, RGB.

    The content decides the format, not the name. Transparent parts become black. Raises `TaskValidationError`
    for anything but a whole JPEG, PNG or WebP of at most `MAX_PIXELS`.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            upright = _to_rgb(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TaskValidationError(f"`{path.name}` is too large: {error}; at most {MAX_PIXELS} pixels") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        allowed = ", ".join(FORMATS)
        raise TaskValidationError(f"`{path.name}` cannot be read as one of {allowed}: {error}") from error
    return np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))


def save_png(path: Path, image: Frame) -> None:
    """Write a height x width x 3 RGB image as PNG."""
    Image.fromarray(image).save(path, format="PNG")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: `convert` would clip them to white
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")
    return image.convert("RGB")
