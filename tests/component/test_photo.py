"""Which files are photos: real ones, hand-made odd ones, and arbitrary bytes."""

import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from components.example_gen.perceptual_hash import perceptual_hash
from components.example_gen.photo import PhotoFacts, PhotoRejected, inspect_photo

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
WIDTH, HEIGHT = 64, 48
REASONS = {
    "empty", "apple_double", "not_an_image", "unsupported_format", "truncated", "corrupt", "too_small",
    "too_large", "decoder_disagrees", "cut_off",
}  # fmt: skip


def inspect(photo_bytes, min_side=8, max_pixels=10_000_000):
    return inspect_photo(photo_bytes, min_side=min_side, max_pixels=max_pixels)


def rejection(photo_bytes, **limits):
    with pytest.raises(PhotoRejected) as rejected:
        inspect(photo_bytes, **limits)
    return rejected.value


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


Y, X = np.mgrid[:HEIGHT, :WIDTH]
PIXELS = np.stack([X * 4, Y * 5, (X + Y) * 2], -1).astype(np.uint8)
SCENE = Image.fromarray(PIXELS)
PALETTE = SCENE.quantize(64)
NEGATIVE = Image.fromarray(255 - PIXELS).quantize(64)
RGBA = Image.fromarray(np.concatenate([PIXELS, PIXELS[..., :1]], -1))


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def bmp(rows, *, bits, height=HEIGHT, compression=0, palette=b""):
    """A BMP with a 40-byte header around encoded `rows`."""
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHI", 40, WIDTH, height, 1, bits, compression)
    header += struct.pack("<IiiII", len(rows), 2835, 2835, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def png(rows, *, bits, color_type, interlace=0):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, color_type, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def filtered(array):
    return b"".join(b"\0" + row.tobytes() for row in array)


def adam7(array):
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(filtered(array[y::down, x::right]) for x, y, right, down in passes)


def run_length_bmp():
    colours = np.array(PALETTE.getpalette()[: 64 * 3]).reshape(-1, 3)
    palette = b"".join(bytes([blue, green, red, 0]) for red, green, blue in colours)
    lines = (b"".join(bytes([1, index]) for index in row) + b"\0\0" for row in np.asarray(PALETTE)[::-1])
    return bmp(b"".join(lines) + b"\0\1", bits=8, compression=1, palette=palette)


def without_adobe_marker(jpeg):
    at = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack(">H", jpeg[at + 2 : at + 4])
    return jpeg[:at] + jpeg[at + 2 + length :]


def ycck():
    jpeg = bytearray(encode(SCENE.convert("CMYK"), "JPEG"))
    jpeg[jpeg.index(b"Adobe") + 11] = 2
    return bytes(jpeg)


def gif_on_a_larger_canvas():
    gif = bytearray(encode(PALETTE, "GIF"))
    gif[6:10] = struct.pack("<HH", 80, 60)
    return bytes(gif)


READ = {
    "jpeg": (encode(SCENE, "JPEG"), "JPEG", "RGB"),
    "jpeg_progressive": (encode(SCENE, "JPEG", progressive=True), "JPEG", "RGB"),
    "jpeg_grey": (encode(SCENE.convert("L"), "JPEG"), "JPEG", "L"),
    "jpeg_cmyk": (encode(SCENE.convert("CMYK"), "JPEG"), "JPEG", "CMYK"),
    "jpeg_ycck": (ycck(), "JPEG", "CMYK"),
    "jpeg_trailing_bytes": (encode(SCENE, "JPEG") + b"x" * 99, "JPEG", "RGB"),
    "mpo": (encode(SCENE, "MPO", save_all=True, append_images=[NEGATIVE.convert("RGB")]), "JPEG", "RGB"),
    "png_rgba": (encode(RGBA, "PNG"), "PNG", "RGBA"),
    "png_grey_alpha": (encode(RGBA.convert("LA"), "PNG"), "PNG", "LA"),
    "png_palette_transparent": (encode(PALETTE, "PNG", transparency=bytes(range(64))), "PNG", "P"),
    "png_1_bit": (encode(SCENE.convert("1"), "PNG"), "PNG", "1"),
    "png_16_bit": (png(filtered(PIXELS.astype(">u2") * 257), bits=16, color_type=2), "PNG", "RGB"),
    "png_16_bit_grey": (png(filtered((Y * 1300).astype(">u2")), bits=16, color_type=0), "PNG", "I;16"),
    "png_interlaced": (png(adam7(PIXELS), bits=8, color_type=2, interlace=1), "PNG", "RGB"),
    "apng": (encode(SCENE, "PNG", save_all=True, append_images=[NEGATIVE.convert("RGB")]), "PNG", "RGB"),
    "gif": (encode(PALETTE, "GIF"), "GIF", "P"),
    "gif_animated": (encode(PALETTE, "GIF", save_all=True, append_images=[NEGATIVE]), "GIF", "P"),
    "bmp_24": (encode(SCENE, "BMP"), "BMP", "RGB"),
    "bmp_32": (encode(RGBA, "BMP"), "BMP", "RGB"),
    "bmp_grey": (encode(SCENE.convert("L"), "BMP"), "BMP", "L"),
    "bmp_top_down": (bmp(PIXELS[..., ::-1].tobytes(), bits=24, height=-HEIGHT), "BMP", "RGB"),
}
BAD = {
    "nothing": (b"", "empty", "0 bytes"),
    "apple_double": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "apple_double", "AppleDouble"),
    "html": (b"\n<!DOCTYPE HTML><html>404", "not_an_image", "an HTML page"),
    "xml": (b'<?xml version="1.0"?><a/>', "not_an_image", "an XML file"),
    "matlab": (b"MATLAB 5.0 MAT-file, Platform", "not_an_image", "a MATLAB file"),
    "zip": (b"PK\3\4abcdefgh", "not_an_image", "a ZIP archive"),
    "text": ("Grüße, kein Bild".encode(), "not_an_image", "a text file"),
    "long_text": (("é" * 900).encode()[:1501], "not_an_image", "a text file"),
    "noise": (bytes(range(200, 220)) * 9, "not_an_image", "c8 c9 ca"),
    "webp": (encode(SCENE, "WEBP"), "unsupported_format", "in WebP format; supported formats are JPEG, PNG, GIF, BMP"),
    "tiff": (encode(SCENE, "TIFF"), "unsupported_format", "TIFF"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported_format", "HEIC"),
    "avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "unsupported_format", "AVIF"),
    "ico": (encode(SCENE, "ICO"), "unsupported_format", "Windows icon"),
    "jpeg_2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "unsupported_format", "JPEG 2000"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="x">', "unsupported_format", "SVG"),
    "jpeg_cut": (encode(SCENE, "JPEG")[:-200], "truncated", "truncated JPEG"),
    "png_cut": (encode(SCENE, "PNG")[:-20], "truncated", "PNG"),
    "gif_cut": (encode(PALETTE, "GIF")[:-300], "truncated", "GIF"),
    "bmp_cut": (encode(SCENE, "BMP")[:-200], "truncated", "BMP"),
    "jpeg_head_only": (b"\xff\xd8\xff\xe0", "truncated", "JPEG"),
    "png_damaged": (encode(SCENE, "PNG").replace(b"IDAT", b"IDAX"), "corrupt", "PNG"),
    "jpeg_without_tables": (b"\xff\xd8\xff\xd9" * 9, "corrupt", "JPEG"),
    "bmp_palette": (encode(PALETTE, "BMP"), "decoder_disagrees", "BMP (P) whose colours"),
    "bmp_1_bit": (encode(SCENE.convert("1"), "BMP"), "unsupported_format", "BMP (1) that Pillow"),
    "bmp_run_length": (run_length_bmp(), "unsupported_format", "BMP (P) that Pillow"),
    "bmp_16": (bmp(bytes(2 * WIDTH * HEIGHT), bits=16), "unsupported_format", "BMP"),
    "gif_larger_canvas": (gif_on_a_larger_canvas(), "decoder_disagrees", "80 x 60 pixels according to Pillow, but 64"),
    "gif_transparent": (encode(PALETTE, "GIF", transparency=3), "decoder_disagrees", "GIF (P)"),
    "cmyk_without_marker": (
        without_adobe_marker(encode(SCENE.convert("CMYK"), "JPEG")), "decoder_disagrees", "JPEG (CMYK)"
    ),
    "png_with_orientation": (encode(SCENE, "PNG", exif=orientation(6)), "decoder_disagrees", "orientation 6 according"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read(name):
    photo_bytes, image_format, color_mode = READ[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = inspect(photo_bytes)
    assert facts == PhotoFacts(image_format, WIDTH, HEIGHT, color_mode, 1, facts.perceptual_hash)


@pytest.mark.parametrize("name", BAD)
def test_rejected_by_name(name):
    photo_bytes, reason, says = BAD[name]
    rejected = rejection(photo_bytes)
    assert rejected.reason == reason
    assert says in rejected.detail
    assert rejected.detail.endswith(".")
    assert "\n" not in rejected.detail


@pytest.mark.parametrize("value", range(1, 9))
def test_the_size_and_the_hash_are_upright(value):
    photo_bytes = encode(SCENE, "JPEG", exif=orientation(value))
    facts = inspect(photo_bytes)
    upright = (WIDTH, HEIGHT) if value < 5 else (HEIGHT, WIDTH)
    assert (facts.width, facts.height, facts.exif_orientation) == (*upright, value)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(photo_bytes)))
    assert facts.perceptual_hash == perceptual_hash(turned) != ""


def test_limits_are_inclusive():
    photo_bytes = encode(SCENE, "PNG")
    assert inspect(photo_bytes, min_side=HEIGHT, max_pixels=WIDTH * HEIGHT).width == WIDTH
    small = rejection(photo_bytes, min_side=HEIGHT + 1)
    assert (small.reason, small.detail) == ("too_small", "is 64 x 48 pixels; each side must be at least 49.")
    assert rejection(photo_bytes, max_pixels=WIDTH * HEIGHT - 1).reason == "too_large"


def test_a_decompression_bomb_is_not_decoded():
    side = 60_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    bomb = start + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + encode(SCENE, "PNG")[33:]
    assert rejection(bomb).reason == "too_large"


def outcome(photo_bytes):
    """The facts, or the reason of the rejection; every other error is a failure."""
    try:
        return inspect(photo_bytes)
    except PhotoRejected as rejected:
        return rejected.reason


def accept_or_name(photo_bytes):
    facts = outcome(photo_bytes)
    if isinstance(facts, str):
        assert facts in REASONS
    else:
        assert min(facts.width, facts.height) >= 8
        assert 1 <= facts.exif_orientation <= 8


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]), st.binary())
def test_any_bytes_are_accepted_or_rejected_by_name(start, noise):
    accept_or_name(start + noise)


@pytest.mark.parametrize("name", ["jpeg", "png_rgba", "gif_animated", "bmp_24", "png_interlaced"])
def test_any_damage_is_accepted_or_rejected_by_name(name):
    whole = READ[name][0]

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6),
        st.integers(0, len(whole)),
        st.booleans(),
    )
    def damage(changes, length, cut):
        damaged = bytearray(whole)
        for at, value in changes:
            damaged[at] = value
        accept_or_name(bytes(damaged[:length] if cut else damaged))

    damage()


needs_real_photos = pytest.mark.skipif(not SHARED.is_dir(), reason="the photos for development are not here")


@needs_real_photos
def test_every_odd_file_found_in_the_wild():
    found = {}
    for path in (SHARED / "corrupt").iterdir():
        facts = outcome(path.read_bytes())
        if isinstance(facts, PhotoFacts):
            facts = f"{facts.image_format} {facts.color_mode} {facts.width}x{facts.height}"
        found[path.name] = facts
    assert found == {
        "PetImages_Cat_11.jpg": "JPEG RGB 432x410",
        "PetImages_Cat_12.jpg": "JPEG RGB 300x225",
        "PetImages_Cat_19.jpg": "JPEG RGB 320x224",
        "PetImages_Cat_23.jpg": "BMP RGB 334x257",
        "PetImages_Cat_666.jpg": "empty",
        "PetImages_Dog_10.jpg": "JPEG RGB 269x293",
        "PetImages_Dog_11702.jpg": "empty",
        "PetImages_Dog_13.jpg": "JPEG RGB 363x428",
        "PetImages_Dog_2.jpg": "JPEG RGB 188x199",
        "PetImages_Dog_37.jpg": "JPEG RGB 400x372",
        "PetImages_Dog_39.jpg": "JPEG RGB 325x356",
        "PetImages_Dog_45.jpg": "JPEG RGB 426x320",
        "PetImages_Dog_50.jpg": "BMP RGB 157x200",
        "oxford_Abyssinian_34.jpg": "GIF P 250x202",
        "oxford_Abyssinian_5.jpg": "PNG RGBA 200x150",
        "oxford_appledouble__trimaps.png": "apple_double",
    }


@needs_real_photos
@pytest.mark.parametrize("folder", ["cats_vs_dogs", "petimages", "oxford_iiit_pet/images"])
def test_real_photos_are_accepted(folder):
    for path in sorted((SHARED / folder).rglob("*.jpg"))[::8]:
        assert isinstance(outcome(path.read_bytes()), PhotoFacts), path


# ---- cut off, and closed again

NOISY = np.clip(
    np.stack(np.mgrid[:200, :300] % 256, -1).repeat(2, -1)[..., :3] * 0.7
    + np.random.default_rng(3).normal(30, 20, (200, 300, 3)), 0, 255
).astype(np.uint8)  # fmt: skip


def cut_and_closed(jpeg, share):
    return jpeg[: int(len(jpeg) * share)].rstrip(b"\xff") + b"\xff\xd9"


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_photo_that_was_cut_off_and_closed_again_is_named(share, subsampling):
    """Both decoders take it for whole, and show a picture whose lower part is one shade."""
    jpeg = cut_and_closed(encode(Image.fromarray(NOISY), "JPEG", quality=90, subsampling=subsampling), share)
    with Image.open(io.BytesIO(jpeg)) as image:
        image.load()
    rejected = rejection(jpeg)
    assert rejected.reason == "cut_off"
    assert re.fullmatch(
        r"is a JPEG whose lower \d\d% is a single colour, #[0-9a-f]{6}, .*; copy it again\.", rejected.detail
    )


def with_margin(shade, left=0):
    """The lower half of one shade; `left`: columns of it beside the picture too."""
    pixels = NOISY.copy()
    pixels[100:] = shade
    pixels[:, :left] = shade
    pixels[80:100, 200:] = shade
    return encode(Image.fromarray(pixels), "JPEG", quality=95)


def test_a_margin_is_no_cut():
    for jpeg in (with_margin(0), with_margin(255), with_margin(90, left=60)):
        assert inspect(jpeg).image_format == "JPEG"
    straight = NOISY.copy()
    straight[120:] = 90
    assert inspect(encode(Image.fromarray(straight), "JPEG", quality=95)).image_format == "JPEG"


def test_many_frames_are_more_pixels_than_one():
    frames = [Image.fromarray(np.roll(PIXELS, 3 * i, 1)).quantize(32) for i in range(20)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=1)
    with Image.open(io.BytesIO(gif)) as opened:
        assert opened.n_frames == 20
    assert inspect(gif, max_pixels=20 * WIDTH * HEIGHT).image_format == "GIF"
    rejected = rejection(gif, max_pixels=20 * WIDTH * HEIGHT - 1)
    assert (rejected.reason, rejected.convertible) == ("too_large", "GIF")
    assert rejected.detail.startswith(f"has 20 frames of {WIDTH} x {HEIGHT} pixels; at most 61,439 pixels in total")
