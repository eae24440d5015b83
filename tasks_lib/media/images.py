"""Still images in and out (Pillow)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks_lib.engines.base import Frame
from tasks_lib.errors import TaskValidationError
from tasks_lib.settings import get_settings

FORMATS = ("JPEG", "PNG", "WEBP")
PREVIEW_SIDE = 320
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """A still picture as it is: `pixels` H x W x 3, `alpha` H x W or None, and the colour profile it is meant in."""

    pixels: Frame
    alpha: NDArray[np.uint8] | None = None
    profile: bytes | None = None


@dataclass(frozen=True)
class ImageFacts:
    """What an image file is. `format` is Pillow's name in small letters, `bytes` the size of the file."""

    width: int
    height: int
    format: str
    bytes: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return asdict(self)


def load_image(path: Path, width: int, height: int) -> Frame:
    """Read an image upright, cut its middle to the aspect of the frame, resize (Lanczos): height x width x 3, RGB.

    The content decides the format, not the name. Transparent parts become black. Raises `TaskValidationError`
    for anything but a whole JPEG, PNG or WebP of no more pixels than the settings allow.
    """
    with _opened(path) as image:
        return np.asarray(ImageOps.fit(_to_rgb(image), (width, height), Image.Resampling.LANCZOS))


def read_picture(path: Path) -> Picture:
    """Read an image upright, in its own size, with its transparency. Raises as `load_image` does."""
    with _opened(path) as image:
        if not image.has_transparency_data:
            return Picture(np.asarray(_to_rgb(image)), None, image.info.get("icc_profile"))
        planes = np.asarray(image.convert("RGBA"))
        return Picture(np.ascontiguousarray(planes[..., :3]), planes[..., 3], image.info.get("icc_profile"))


def enlarged_like(original: Picture, pixels: Frame) -> Picture:
    """A picture of these pixels with the transparency (in their size) and the colour profile of the original."""
    alpha = original.alpha
    if alpha is not None:
        size = pixels.shape[1], pixels.shape[0]
        alpha = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.LANCZOS))
    return Picture(pixels, alpha, original.profile)


def save_picture(path: Path, picture: Picture) -> None:
    """Write a picture in the format of the path's suffix. Raises `TaskValidationError` where that cannot hold it."""
    image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    try:
        image.save(path, quality=95, icc_profile=picture.profile)
    except (OSError, ValueError) as error:
        raise TaskValidationError(f"{image.width} x {image.height} cannot be kept as {path.suffix}: {error}") from error


def probe_image(path: Path) -> ImageFacts:
    """Read the header and state what the file is, upright. Raises `TaskValidationError` for what is not an image."""
    with _guarded(path), Image.open(path, formats=FORMATS) as image:
        size = image.size[::-1] if image.getexif().get(_ORIENTATION, 1) > 4 else image.size
        kind = str(image.format).lower()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ImageFacts(*size, kind, path.stat().st_size, digest)


def save_png(path: Path, image: Frame) -> None:
    """Write a height x width x 3 RGB image as PNG."""
    Image.fromarray(image).save(path, format="PNG")


def save_preview(path: Path, image: Frame) -> None:
    """Write an image as a JPEG of a few kilobytes, no side longer than PREVIEW_SIDE."""
    small = Image.fromarray(image)
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    small.save(path, format="JPEG", quality=75)


def thumbnail(path: Path, side: int) -> bytes:
    """Return an image as a JPEG that fits into a square. Raises as `load_image` does."""
    with _opened(path) as image:
        small = _to_rgb(image)
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=70)
    return file.getvalue()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The decoded image, upright."""
    with _guarded(path), Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > get_settings().image_pixels:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
        yield ImageOps.exif_transpose(image)


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        allowed = f"at most {get_settings().image_pixels} pixels"
        raise TaskValidationError(f"`{path.name}` is too large: {error}; {allowed}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise TaskValidationError(f"`{path.name}` cannot be read as one of {', '.join(FORMATS)}: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: `convert` would clip them to white
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")
    return image.convert("RGB")
