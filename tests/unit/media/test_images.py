"""Still images: upright, cropped, and refused when they are not what they say."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks_lib.errors import TaskValidationError
from tasks_lib.media.images import load_image, save_png


def stripes(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Red on the left half, blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


def test_pixels_are_kept_when_the_size_is_already_right(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    save_png(tmp_path / "a.png", image)
    assert np.array_equal(load_image(tmp_path / "a.png", 48, 32), image)


def test_middle_is_cut_when_the_aspect_differs(tmp_path: Path) -> None:
    save_png(tmp_path / "wide.png", stripes(40, 200))
    image = load_image(tmp_path / "wide.png", 20, 20)
    assert image.shape == (20, 20, 3)
    assert image[10, 2].tolist() == [255, 0, 0]
    assert image[10, 17].tolist() == [0, 0, 255]


def test_image_is_upright_when_exif_says_it_lies(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter: what was left comes to the top
    Image.fromarray(stripes(32, 64)).save(tmp_path / "lying.jpg", exif=exif, quality=95)
    image = load_image(tmp_path / "lying.jpg", 32, 64)
    assert image[8, 16, 0] > 200
    assert image[56, 16, 2] > 200


def test_transparent_parts_are_black_when_the_image_has_alpha(tmp_path: Path) -> None:
    rgba = np.full((16, 16, 4), 255, np.uint8)
    rgba[:, :8, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "alpha.webp", lossless=True)
    image = load_image(tmp_path / "alpha.webp", 16, 16)
    assert image[8, 2].tolist() == [0, 0, 0]
    assert image[8, 13].tolist() == [255, 255, 255]


def test_greys_are_kept_when_they_have_16_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 128 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert load_image(tmp_path / "deep.png", 16, 16)[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize("side", [9000, 12000, 60000])
def test_bomb_is_refused_before_decoding_when_the_header_claims_too_much(tmp_path: Path, side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(TaskValidationError, match="too large"):
        load_image(path, 64, 64)


def test_content_is_refused_when_it_is_not_an_image_of_a_known_format(tmp_path: Path) -> None:
    text, gif, cut = tmp_path / "text.png", tmp_path / "gif.png", tmp_path / "cut.png"
    text.write_text("no image")
    Image.new("RGB", (8, 8)).save(gif, format="GIF")
    save_png(cut, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    cut.write_bytes(cut.read_bytes()[:2000])
    for path in (text, gif, cut, tmp_path / "absent.png"):
        with pytest.raises(TaskValidationError, match=path.name):
            load_image(path, 64, 64)
