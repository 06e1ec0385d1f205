"""What is read, converted, and refused by name, of every kind of odd file; and that a viewer would show the same."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from components.example_gen import found_photos
from components.example_gen.conversion import read_file, read_path, read_photo
from components.example_gen.executor import make_example
from components.example_gen.photo import PhotoRejected, to_rgb
from components.example_gen.photo_rules import INPUT_FILE, WHITE, Colour, PhotoRules, as_json, read_rules
from components.transform import image_ops
from schemas import features as f
from schemas.errors import BadInput

# isort: split
import tensorflow as tf

WIDTH, HEIGHT = 96, 72
Y, X = np.mgrid[:HEIGHT, :WIDTH]
PIXELS = np.clip(
    np.stack([X * 2, Y * 3, X + Y], -1) + np.random.default_rng(5).normal(0, 12, (HEIGHT, WIDTH, 3)), 0, 255
).astype(np.uint8)
SCENE = Image.fromarray(PIXELS)
GREY = np.asarray(SCENE.convert("L"))
# A cut-out: opaque in the middle, transparent around it.
MASK = Image.new("L", SCENE.size, 0)
MASK.paste(255, (WIDTH // 4, HEIGHT // 4, 3 * WIDTH // 4, 3 * HEIGHT // 4))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
ON_WHITE = Image.composite(SCENE, Image.new("RGB", SCENE.size, "white"), MASK)

# 32 x 24 pixels, red left of blue, the lower half transparent; its container turns it by 90 degrees. Nothing that is
# installed with warmstart writes HEIC.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAApdtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "AEZpbG9jAAAAAERAAAMAAQAAAAACuwABAAAAAAAAAFAAAgAAAAADCwABAAAAAAAAADIAAwAAAAADPQABAAAAAAAAACQAAABNaWlu"
    "ZgAAAAAAAwAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAAACAABodmMxAAAAABVpbmZlAgAAAQADAABFeGlmAAAAAA5w"
    "aXRtAAAAAAABAAABoWlwcnAAAAF4aXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAA"
    "AAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABRpc3Bl"
    "AAAAAAAAAEAAAABAAAAAKGNsYXAAAAAgAAAAAQAAABgAAAAB////4AAAAAL////YAAAAAgAAABBwaXhpAAAAAAMICAgAAAAJaXJv"
    "dAMAAABxaHZjQwEECAAAAJ/4AAAAAB7wAPz8+PgAAA8DYAABABdAAQwB//8ECAAAAwCf+AAAAwAAHroCQGEAAQAmQgEBBAgAAAMA"
    "n/gAAAMAAB7AggQWW6q6a5sCAAADADIAAAMAAhBiAAEABkQBwXPBiQAAAA5waXhpAAAAAAEIAAAAJ2F1eEMAAAAAdXJuOm1wZWc6"
    "aGV2YzoyMDE1OmF1eGlkOjEAAAAAIWlwbWEAAAAAAAAAAgABBYECBIOFAAIGhgIHiIOFAAAAKGlyZWYAAAAAAAAADmF1eGwAAgAB"
    "AAEAAAAOY2RzYwADAAEAAQAAAK5tZGF0AAAATCgBr1IXTmzm/Oq//2rn/7dmQ8vTQr/429V9xzT/ZfIQftDapJYEfAC9wzJtqyFK"
    "wrmVRELTacbSqDXPkGIdQIrjbLhske/gBxgAWcAAAAAuKAGupC0SON8PNzCFArSp/R4ieYHDL1cn2RwPBD3Ff+P+dKmk/CCzb1kN"
    "phaD/AAAAAZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.copy().save(buffer, image_format, **options)  # a JPEG leaves settings in the picture that TIFF chokes on
    return buffer.getvalue()


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(alpha)
    return image


def cut_out(hidden):
    return encode(with_alpha(Image.composite(SCENE, hidden, MASK), MASK), "PNG")


CUT_OUTS = {
    "cutout_black.png": cut_out(Image.new("RGB", SCENE.size)),
    "cutout_noise.png": cut_out(NOISE),
    "cutout_photo_hidden.png": cut_out(SCENE),
    "cutout_as_shown.png": encode(ON_WHITE, "PNG"),
}


def turned(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def segment(marker, content):
    return b"\xff" + marker + struct.pack(">H", 2 + len(content)) + content


def jpeg_with(*segments):
    jpeg = encode(SCENE, "JPEG")
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif_segment(value):
    jpeg = encode(SCENE, "JPEG", exif=turned(value))
    at = jpeg.index(b"\xff\xe1")
    (length,) = struct.unpack(">H", jpeg[at + 2 : at + 4])
    return jpeg[at : at + 2 + length]


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with_text(letters):
    png = encode(SCENE, "PNG")
    return png[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * letters)) + png[33:]


ROTATED = SCENE.rotate(90)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
BIG_PROFILE = [segment(b"\xe2", b"ICC_PROFILE\0" + bytes([k, 3]) + bytes(65_000)) for k in (1, 2, 3)]
READ, CONVERTED = "read", "converted"
# name -> bytes, then READ or CONVERTED and the format, or the reason and a part of the sentence.
ODD_FILES = {
    **{name: (content, READ, "PNG") for name, content in CUT_OUTS.items()},
    "palette_trns.png": (encode(SCENE.quantize(64), "PNG", transparency=0), READ, "PNG"),
    "grey_alpha.png": (encode(with_alpha(SCENE.convert("L"), MASK), "PNG"), READ, "PNG"),
    "gif_transparent.gif": (encode(SCENE.quantize(32), "GIF", transparency=3), CONVERTED, "GIF"),
    "all_transparent.png": (
        encode(with_alpha(SCENE, 0), "PNG"), "almost_nothing_to_see", "is fully transparent"
    ),
    "all_transparent.gif": (
        encode(Image.new("P", SCENE.size), "GIF", transparency=0), "almost_nothing_to_see", "is fully transparent"
    ),
    "white_on_nothing.png": (
        encode(with_alpha(Image.new("RGB", SCENE.size, "white"), MASK), "PNG"),
        "almost_nothing_to_see",
        "shows nothing on the background #ffffff: every pixel is #ffffff; set image.background",
    ),
    "all_black.jpg": (
        encode(Image.new("RGB", SCENE.size), "JPEG"), "almost_nothing_to_see", "every pixel is #000000; delete it"
    ),
    "all_red.png": (encode(Image.new("RGB", SCENE.size, "red"), "PNG"), READ, "PNG"),
    "dark_night.jpg": (encode(SCENE.point(lambda value: value // 24), "JPEG"), READ, "JPEG"),
    "white_wall.png": (encode(SCENE.point(lambda value: 250 + value // 64), "PNG"), READ, "PNG"),
    "grey16.png": (encode(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"), READ, "PNG"),
    "grey14_in_16.png": (encode(Image.fromarray(GREY.astype(np.uint16) * 64), "PNG"), READ, "PNG"),
    "grey12_in_16.png": (
        encode(Image.fromarray(GREY.astype(np.uint16) * 16), "PNG"),
        "almost_nothing_to_see",
        "is nearly black: it has 16 bits per colour but uses only the lowest 5% of the range",
    ),
    "grey12_in_16.tif": (
        encode(Image.fromarray(GREY.astype(np.uint16) * 16), "TIFF"), "almost_nothing_to_see", "the lowest 5%"
    ),
    "bit1.png": (encode(SCENE.convert("1"), "PNG"), READ, "PNG"),
    "cmyk.jpg": (encode(SCENE.convert("CMYK"), "JPEG"), READ, "JPEG"),
    "progressive.jpg": (encode(SCENE, "JPEG", progressive=True), READ, "JPEG"),
    "one_pixel.png": (encode(SCENE.resize((1, 1)), "PNG"), "too_small", "is 1 x 1 pixels"),
    "thin.png": (encode(SCENE.resize((2000, 3)), "PNG"), "too_small", "is 2000 x 3 pixels"),
    "orient6.jpg": (encode(SCENE, "JPEG", exif=turned(6)), READ, "JPEG"),
    "orient6.png": (encode(SCENE, "PNG", exif=turned(6)), CONVERTED, "PNG"),
    "orient6_exif_after_195k.jpg": (jpeg_with(*BIG_PROFILE, exif_segment(6)), CONVERTED, "JPEG"),
    "orient6_two_exif.jpg": (jpeg_with(exif_segment(6), exif_segment(3)), READ, "JPEG"),
    "icc_srgb.jpg": (encode(SCENE, "JPEG", icc_profile=PROFILE), READ, "JPEG"),
    "icc_broken.jpg": (encode(SCENE, "JPEG", icc_profile=b"broken" * 50), READ, "JPEG"),
    "mpo.jpg": (encode(SCENE, "MPO", save_all=True, append_images=[ROTATED.copy()]), READ, "JPEG"),
    "motion_photo.jpg": (encode(SCENE, "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(50_000), READ, "JPEG"),
    "png_trailing.png": (encode(SCENE, "PNG") + b"x" * 5000, READ, "PNG"),
    "no_eoi.jpg": (encode(SCENE, "JPEG")[:-2], "truncated", "is a truncated JPEG"),
    "leading_newline.jpg": (b"\n" + encode(SCENE, "JPEG"), "not_an_image", "it starts with 0a ff d8"),
    "apng.png": (encode(SCENE, "PNG", save_all=True, append_images=[ROTATED.copy()]), READ, "PNG"),
    "animated.gif": (encode(SCENE, "GIF", save_all=True, append_images=[ROTATED.copy()]), READ, "GIF"),
    "as_WEBP.jpg": (encode(SCENE, "WEBP"), CONVERTED, "WebP"),
    "animated.webp": (encode(SCENE, "WEBP", save_all=True, append_images=[ROTATED.copy()]), CONVERTED, "WebP"),
    "as_TIFF.jpg": (encode(SCENE, "TIFF"), CONVERTED, "TIFF"),
    "pages.tif": (encode(SCENE, "TIFF", save_all=True, append_images=[ROTATED.copy()]), CONVERTED, "TIFF"),
    "cmyk.tif": (encode(SCENE.convert("CMYK"), "TIFF"), CONVERTED, "TIFF"),
    "grey16.tif": (encode(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"), CONVERTED, "TIFF"),
    "float.tif": (
        encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "unsupported_format", "a TIFF with 32 bits per pixel"
    ),
    "as_AVIF.jpg": (encode(SCENE, "AVIF"), CONVERTED, "AVIF"),
    "phone.heic": (HEIC, CONVERTED, "HEIC"),
    "as_JPEG2000.jpg": (encode(SCENE, "JPEG2000"), "unsupported_format", "is in JPEG 2000 format; supported"),
    "as_ICO.jpg": (encode(SCENE, "ICO"), "unsupported_format", "is in Windows icon format"),
    "as_PPM.jpg": (encode(SCENE, "PPM"), "unsupported_format", "is in Netpbm format"),
    "as_TGA.jpg": (encode(SCENE, "TGA"), "not_an_image", "is not a known image format"),
    "as_PCX.jpg": (encode(SCENE, "PCX"), "not_an_image", "is not a known image format"),
    "as_ICNS.jpg": (encode(SCENE.resize((128, 128)), "ICNS"), "not_an_image", "is not a known image format"),
    "png_big_text.png": (png_with_text(3_000_000), READ, "PNG"),
    "exif_garbage.jpg": (
        jpeg_with(segment(b"\xe1", b"Exif\0\0II*\0" + b"\xff" * 16)), READ, "JPEG"
    ),
    "bmp24.bmp": (encode(SCENE, "BMP"), READ, "BMP"),
    "bmp32.bmp": (encode(with_alpha(SCENE, MASK), "BMP"), READ, "BMP"),
    "bmp_palette.bmp": (encode(SCENE.quantize(256), "BMP"), CONVERTED, "BMP"),
    "bmp_1_bit.bmp": (encode(SCENE.convert("1"), "BMP"), CONVERTED, "BMP"),
    "q1.jpg": (encode(SCENE, "JPEG", quality=1), READ, "JPEG"),
    "luma_only.jpg": (encode(SCENE.convert("L"), "JPEG"), READ, "JPEG"),
    "rgb_keep.jpg": (encode(SCENE, "JPEG", keep_rgb=True), READ, "JPEG"),
    "cut.webp": (encode(SCENE, "WEBP")[:-200], "corrupt", "is a damaged or unusual WebP"),
    "not_heic_at_all.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "corrupt", "is a damaged or unusual HEIC"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_FILES)
def test_every_odd_file_is_read_converted_or_refused_with_a_sentence(name):
    content, what, says = ODD_FILES[name]
    if what in (READ, CONVERTED):
        read = read_photo(content, PhotoRules())
        assert (CONVERTED if read.converted else READ, read.facts.image_format) == (what, says)
        assert read.photo_bytes.startswith(b"\x89PNG") if read.converted else read.photo_bytes == content
    else:
        with pytest.raises(PhotoRejected) as rejected:
            read_photo(content, PhotoRules())
        assert rejected.value.reason == what
        assert says in rejected.value.detail
        assert rejected.value.detail.endswith(".")


@pytest.mark.parametrize("name", [name for name, (_, what, _) in ODD_FILES.items() if what in (READ, CONVERTED)])
def test_the_graph_sees_what_a_viewer_shows(name):
    """The viewer is Pillow with its own way of turning and compositing."""
    content, _, image_format = ODD_FILES[name]
    read = read_photo(content, PhotoRules())
    if image_format == "HEIC":
        red, blue = [220, 40, 30], [30, 60, 210]  # above and below; the left half is transparent
        expected = np.full((32, 24, 3), 255)
        expected[:16, 12:], expected[16:, 12:] = red, blue
    else:
        opened = Image.open(io.BytesIO(content))
        if opened.mode.startswith("I"):
            opened = Image.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
        shown = ImageOps.exif_transpose(opened).convert("RGBA")
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
        expected = np.asarray(shown.convert("RGB"), np.int16)
    photo = tf.constant(read.photo_bytes)
    seen = image_ops.upright(image_ops.decode_image(photo), image_ops.exif_orientation(photo)).numpy()
    assert seen.shape == expected.shape == (read.facts.height, read.facts.width, 3)
    # Decoders of JPEG differ by some levels, at the borders of coloured fields; those of others do not.
    difference = np.abs(seen - expected)
    assert difference.max() <= (1 if image_format not in ("JPEG", "HEIC") else 90)
    assert difference.mean() < 3


@pytest.mark.parametrize(
    ("image_format", "options"),
    [("WEBP", {"exif": turned(8)}), ("AVIF", {"exif": turned(8)}), ("TIFF", {"tiffinfo": {0x0112: 8}})],
)
def test_what_is_converted_is_upright_and_keeps_its_alpha(image_format, options):
    image = with_alpha(SCENE, MASK)
    read = read_photo(encode(image, image_format, **options), PhotoRules())
    assert (read.facts.width, read.facts.height, read.facts.exif_orientation) == (HEIGHT, WIDTH, 1)
    png = Image.open(io.BytesIO(read.photo_bytes))
    assert (png.mode, png.info.get("exif")) == ("RGBA", None)
    expected = image.transpose(Image.Transpose.ROTATE_90)
    assert np.abs(np.asarray(png.getchannel("A"), int) - np.asarray(expected.getchannel("A"))).max() <= 2


@pytest.mark.parametrize("image_format", ["WEBP", "TIFF"])
def test_the_conversion_loses_nothing(image_format):
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    image = with_alpha(NOISE, Image.fromarray(GREY))
    png = read_photo(encode(image, image_format, **options), PhotoRules()).photo_bytes
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(image))


def test_16_bits_of_grey_stay_16():
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 9
    png = read_photo(encode(Image.fromarray(values), "TIFF"), PhotoRules()).photo_bytes
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), values)


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_tiff_whose_zero_is_white_is_no_negative(kind, white):
    """As scanners write them: PhotometricInterpretation (tag 262) is 0."""
    stored = np.linspace(0, white, 32 * 32).astype(kind).reshape(32, 32)
    file = encode(Image.fromarray(stored), "TIFF")
    tag = struct.pack("<HHL", 262, 3, 1)
    assert file.count(tag + struct.pack("<HH", 1, 0)) == 1
    file = file.replace(tag + struct.pack("<HH", 1, 0), tag + struct.pack("<HH", 0, 0))
    with Image.open(io.BytesIO(read_photo(file, PhotoRules()).photo_bytes)) as png:
        np.testing.assert_array_equal(np.asarray(png).astype(np.int64), white - stored.astype(np.int64))


def test_the_hash_of_an_example_is_that_of_the_file():
    content = ODD_FILES["as_WEBP.jpg"][0]
    read = read_photo(content, PhotoRules())
    found = found_photos.Photo("/x/a.webp", "a.webp", "image_folder", "a")
    features = make_example(found, read, hashlib.sha256(content).hexdigest(), "a").features.feature
    assert features[f.CONTENT_HASH].bytes_list.value[0].decode() == hashlib.sha256(content).hexdigest()
    assert features[f.IMAGE_FORMAT].bytes_list.value[0] == b"WebP"
    assert features[f.IMAGE].bytes_list.value[0].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("as_WEBP.jpg", "unsupported_format"),
        ("phone.heic", "unsupported_format"),
        ("bmp_palette.bmp", "decoder_disagrees"),
    ],
)
def test_the_conversion_can_be_switched_off(name, reason):
    with pytest.raises(PhotoRejected) as rejected:
        read_photo(ODD_FILES[name][0], PhotoRules(convert=False))
    assert rejected.value.reason == reason
    assert rejected.value.detail.endswith(".")


def test_without_its_package_heic_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(PhotoRejected, match="needs the package pi-heif, and that is not installed") as rejected:
        read_photo(HEIC, PhotoRules())
    assert rejected.value.reason == "unsupported_format"


@pytest.mark.parametrize("name", ["as_WEBP.jpg", "as_TIFF.jpg", "as_AVIF.jpg", "phone.heic", "cutout_noise.png"])
def test_the_size_is_judged_before_a_pixel_is_decoded(name, monkeypatch):
    content = ODD_FILES[name][0]
    facts = read_photo(content, PhotoRules()).facts

    def never(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    pixels = facts.width * facts.height
    with pytest.raises(PhotoRejected, match=f"pixels; at most {pixels - 1:,} in total are allowed") as rejected:
        read_photo(content, PhotoRules(max_pixels=pixels - 1))
    assert rejected.value.reason == "too_large"


def enormous_png(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_pillow_s_own_limit_does_not_interfere():
    """It allows 178,956,970 pixels; the second picture has more, and nothing in it to decode."""
    with pytest.raises(PhotoRejected, match="is 60000 x 60000 pixels; at most 300,000,000 in total are allowed"):
        read_photo(enormous_png(60_000), PhotoRules(max_pixels=300_000_000))
    with pytest.raises(PhotoRejected) as rejected:
        read_photo(enormous_png(13_400), PhotoRules(max_pixels=200_000_000))
    assert rejected.value.reason in ("truncated", "corrupt")


def test_a_text_without_end_is_not_read():
    with pytest.raises(PhotoRejected) as rejected:
        read_photo(png_with_text(80_000_000), PhotoRules())
    assert rejected.value.reason == "corrupt"
    assert "with more than 64 MiB of text" in rejected.value.detail


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["RGBA", "LA", "P", "RGB", "L", "1"]),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.randoms(use_true_random=False),
)
def test_the_composite_is_pillow_s(size, mode, background, random):
    rng = np.random.default_rng(random.getrandbits(32))
    image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 4), dtype=np.uint8)).convert(mode)
    options = {"P": {"transparency": rng.bytes(200)}, "L": {"transparency": int(rng.integers(256))}}.get(mode, {})
    content = encode(image, "PNG", **options)
    seen = image_ops.decode_image(tf.constant(content), background).numpy()
    opened = Image.open(io.BytesIO(content))
    shown = Image.alpha_composite(Image.new("RGBA", size, (*background, 255)), opened.convert("RGBA")).convert("RGB")
    assert np.abs(seen.astype(int) - np.asarray(shown)).max() <= 1
    np.testing.assert_array_equal(seen, np.asarray(to_rgb(opened, Colour(*background))))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_every_depth_is_opaque(bits):
    """decode_png of TensorFlow 2.16 makes the alpha of what has less than 8 bits 1, 3 or 15 for opaque."""
    rows = b"".join(b"\0" + np.random.default_rng(row).bytes(32 * bits // 8) for row in range(24))
    header = struct.pack(">IIBBBBB", 32, 24, bits, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert read_photo(png, PhotoRules()).facts.image_format == "PNG"
    plain = tf.io.decode_jpeg(png, channels=3, dct_method="INTEGER_ACCURATE")
    np.testing.assert_array_equal(image_ops.decode_image(tf.constant(png)), plain)


def test_an_opaque_png_is_what_it_was_to_the_bit():
    for image in (SCENE, NOISE.convert("RGBA"), SCENE.convert("LA"), SCENE.quantize(200), SCENE.convert("1")):
        png = encode(image, "PNG")
        plain = tf.io.decode_jpeg(png, channels=3, dct_method="INTEGER_ACCURATE")
        np.testing.assert_array_equal(image_ops.decode_image(tf.constant(png)), plain)


# ---- the rules that travel with a model


def test_rules_are_written_and_read_again(tmp_path):
    rules = PhotoRules(min_side=8, max_pixels=10**6, convert=False, background="#102030")
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / INPUT_FILE).write_text(as_json(rules))
    assert read_rules(tmp_path) == rules
    assert rules.colour == (16, 32, 48)
    assert "JPEG, PNG, GIF, BMP" in (tmp_path / INPUT_FILE).read_text()


def test_a_model_of_an_older_version_has_the_default_rules(tmp_path):
    assert read_rules(tmp_path) == PhotoRules()
    assert PhotoRules().colour == WHITE


@pytest.mark.parametrize("damaged", ["", "[]", '{"background": "red"}', '{"background": 3}', b"\xff"])
def test_damaged_rules_are_said_to_be(tmp_path, damaged):
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / INPUT_FILE).write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(BadInput, match=r"input\.json is damaged: expected the rules that warmstart wrote"):
        read_rules(tmp_path)


# ---- what is not even read


class Film(io.RawIOBase):
    """A file of any size; `taken`: how much of it was read."""

    def __init__(self, start):
        self._start, self.taken = start, 0

    def read(self, size=-1):
        assert size >= 0, "nobody may ask for all of it"
        self.taken += size
        return (self._start + bytes(size))[:size]


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\0\0\0\x20ftypisom", "not_an_image"),
        (b"PK\x03\x04", "not_an_image"),
        (b"8BPS", "unsupported_format"),
        (b"\xff\xd8\xff\xe0", "too_large"),
        (b"RIFF\0\0\0\0WEBP", "too_large"),
    ],
)
def test_of_a_film_of_two_gigabytes_the_beginning_is_read(start, reason):
    film = Film(start)
    with pytest.raises(PhotoRejected) as rejected:
        read_file(film, 2**31, PhotoRules())
    assert rejected.value.reason == reason
    assert film.taken == 1024
    if reason == "too_large":
        assert rejected.value.detail.startswith(
            "is 2,147 MB, more than the limit of 100 MB; save a smaller copy, or raise "
        )


def test_what_may_be_a_photo_is_read_whole(tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(encode(SCENE, "JPEG") + bytes(5000))
    assert read_path(file, PhotoRules()) == file.read_bytes()
    (tmp_path / "large.jpg").write_bytes(encode(SCENE, "JPEG") + bytes(1_000_000))
    with pytest.raises(PhotoRejected, match="limit of 1 MB"):
        read_path(tmp_path / "large.jpg", PhotoRules(max_file_megabytes=1))
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(PhotoRejected, match="is empty"):
        read_path(tmp_path / "empty.jpg", PhotoRules())


def test_of_a_long_animation_the_first_frame_is_converted():
    frames = [SCENE.rotate(7 * i).quantize(32) for i in range(12)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    rules = PhotoRules(max_pixels=11 * WIDTH * HEIGHT)
    read = read_photo(gif, rules)
    assert (read.converted, read.facts.image_format) == (True, "GIF")
    with Image.open(io.BytesIO(read.photo_bytes)) as png, Image.open(io.BytesIO(gif)) as first:
        assert (png.format, getattr(png, "n_frames", 1)) == ("PNG", 1)
        np.testing.assert_array_equal(np.asarray(png.convert("RGB")), np.asarray(first.convert("RGB")))
    with pytest.raises(PhotoRejected, match="has 12 frames"):
        read_photo(gif, PhotoRules(max_pixels=11 * WIDTH * HEIGHT, convert=False))
