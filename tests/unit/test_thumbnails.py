"""Small pictures for a page: upright, few bytes, and no harm from files that mean some."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from components.example_gen.photo_rules import PhotoRules
from components.report.thumbnails import SIDE, thumbnail, thumbnail_of_rejected

START = "data:image/jpeg;base64,"
RULES = PhotoRules(max_pixels=1_000_000)


def encoded(image: Image.Image, image_format: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    assert uri.startswith(START)
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(START))))
    image.load()
    assert image.format == "JPEG"
    return image


def two_colours(size: tuple[int, int]) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", size, (220, 20, 20))
    image.paste((20, 20, 220), (0, size[1] // 2, *size))
    return image


@pytest.mark.parametrize("size", [(640, 480), (300, 900), (161, 3), (40, 30)])
def test_the_longer_side_has_at_most_160_pixels(size):
    image = decoded(thumbnail(encoded(two_colours(size))))
    assert max(image.size) == min(SIDE, max(size))
    assert image.size[0] / image.size[1] == pytest.approx(size[0] / size[1], rel=0.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_shown_upright(orientation):
    back = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }[orientation]  # fmt: skip
    upright = two_colours((400, 200))
    upright.paste((20, 220, 20), (0, 0, 100, 100))  # and green in the upper left corner
    stored = upright
    for turn in back:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = np.asarray(decoded(thumbnail(encoded(stored, exif=exif))), int)
    assert shown.shape == (80, 160, 3)
    assert [int(np.argmax(shown[y, x])) for y, x in ((10, 10), (10, 140), (70, 10), (70, 140))] == [1, 0, 2, 2]


@pytest.mark.parametrize(
    ("image", "image_format"),
    [
        (two_colours((300, 200)).convert("CMYK"), "JPEG"),
        (two_colours((300, 200)).convert("RGBA"), "PNG"),
        (two_colours((300, 200)).quantize(16), "GIF"),
        (two_colours((300, 200)), "BMP"),
        (two_colours((300, 200)), "WEBP"),
    ],
)
def test_every_kind_of_photo_can_be_shown(image, image_format):
    shown = np.asarray(decoded(thumbnail(encoded(image, image_format))), int)
    assert [int(np.argmax(shown[y, 80])) for y in (20, 90)] == [0, 2]


def test_sixteen_bits_of_grey_are_shown_as_grey():
    levels = np.tile(np.linspace(0, 65535, 200).astype(np.uint16), (100, 1))
    shown = np.asarray(decoded(thumbnail(encoded(Image.fromarray(levels), "PNG"))), int)
    assert shown[40, 5].max() < 40
    assert shown[40, 155].min() > 215
    assert 100 < shown[40, 80].mean() < 155


def test_even_noise_takes_few_bytes():
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    uri = thumbnail(encoded(Image.fromarray(noise), quality=95))
    assert uri is not None
    assert len(uri) < 20_000


def huge_png(side: int) -> bytes:
    """A PNG of a few hundred bytes that says it has `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 50)) + chunk(b"IEND", b"")
    )


def test_what_is_no_photo_has_no_picture(tmp_path):
    files = {
        "empty": b"",
        "text": b"no photo",
        "too many pixels": encoded(Image.new("L", (1001, 1000)), "PNG"),
        "says it is huge": huge_png(12_000),
        "says it is enormous": huge_png(60_000),
        "vector": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert thumbnail_of_rejected(str(tmp_path / name), RULES) is None, name
    os.mkfifo(tmp_path / "pipe")  # which nobody writes to
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    os.symlink("/dev/zero", tmp_path / "endless")
    for name in ("pipe", "dangling", "endless", "gone", "."):
        assert thumbnail_of_rejected(str(tmp_path / name), RULES) is None, name


def test_as_many_pixels_as_allowed_are_shown(tmp_path):
    (tmp_path / "photo").write_bytes(encoded(Image.new("L", (1000, 1000), 200), "PNG"))
    assert decoded(thumbnail_of_rejected(str(tmp_path / "photo"), RULES)).size == (SIDE, SIDE)


def test_a_very_large_file_is_not_read(tmp_path):
    photo = encoded(two_colours((100, 100)))
    with (tmp_path / "photo").open("wb") as file:
        file.write(photo)
        file.truncate(65 * 2**20)  # a hole, which takes no room on the disk
    assert thumbnail_of_rejected(str(tmp_path / "photo"), RULES) is None


def test_the_upper_half_of_a_cut_photo_is_shown(tmp_path):
    rng = np.random.default_rng(2)
    noisy = np.clip(np.asarray(two_colours((400, 400)), int) + rng.normal(0, 20, (400, 400, 3)), 0, 255)
    photo = encoded(Image.fromarray(noisy.astype(np.uint8)), quality=95)
    cut = Path(tmp_path, "cut")
    cut.write_bytes(photo[: len(photo) // 3])
    assert thumbnail(cut.read_bytes()) is None
    shown = np.asarray(decoded(thumbnail_of_rejected(str(cut), RULES)), int)
    assert np.argmax(shown[20, 80]) == 0
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
