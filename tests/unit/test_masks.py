"""Masks as programs write them: the ids that are read, and what is refused."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from components.example_gen.mask_classes import TRIMAPS, VOC_VOID, MaskClasses, listed
from components.example_gen.masks import read_mask, values_in
from components.example_gen.photo import PhotoFacts, PhotoRejected
from components.example_gen.photo_rules import Colour

SIZE = (12, 8)  # width, height
IDS = np.random.default_rng(3).integers(0, 3, SIZE[::-1]).astype(np.uint8)
IDS[0, :3] = 255
NAMES = ("background", "cat", "dog")
COLOURS = {Colour(0, 0, 0): 0, Colour(64, 0, 0): 1, Colour(64, 0, 128): 2, VOC_VOID: 255}
BY_VALUE = listed(NAMES, "classes.txt")
BY_COLOUR = listed(NAMES, "labelmap.txt", COLOURS)
MOST_PIXELS = 10**6


def facts(width=SIZE[0], height=SIZE[1], orientation=1) -> PhotoFacts:
    return PhotoFacts("JPEG", width, height, "RGB", orientation, "")


def encoded(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def in_colours(ids: np.ndarray) -> Image.Image:
    by_id = {number: colour for colour, number in COLOURS.items()}
    return Image.fromarray(np.array([[by_id[int(value)] for value in row] for row in ids], np.uint8))


def with_palette(ids: np.ndarray, colours=COLOURS) -> Image.Image:
    image = Image.fromarray(ids, "P")
    palette = [0] * 768
    for colour, number in colours.items():
        palette[3 * number : 3 * number + 3] = colour
    image.putpalette(palette)
    return image


def ids_of(mask_bytes: bytes, classes: MaskClasses = BY_VALUE, **of_photo) -> np.ndarray:
    png = read_mask(mask_bytes, "masks/a.png", classes, facts(**of_photo), MOST_PIXELS).png
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


def rejection(mask_bytes: bytes, classes: MaskClasses = BY_VALUE, **of_photo) -> tuple[str, str]:
    with pytest.raises(PhotoRejected) as rejected:
        ids_of(mask_bytes, classes, **of_photo)
    return rejected.value.reason, rejected.value.detail


def grey_alpha(ids):
    return Image.merge("LA", [Image.fromarray(ids), Image.fromarray(np.full_like(ids, 128))])


KINDS = {
    "grey": encoded(Image.fromarray(IDS)),
    "grey with alpha": encoded(grey_alpha(IDS)),
    "grey as RGB": encoded(Image.fromarray(np.stack([IDS] * 3, axis=2))),
    "grey as RGBA": encoded(Image.fromarray(np.stack([IDS] * 4, axis=2))),
    "16 bits": encoded(Image.fromarray(IDS.astype(np.uint16))),
    "palette": encoded(with_palette(IDS)),
    "palette with a transparent colour": encoded(with_palette(IDS), transparency=0),
    "BMP": encoded(Image.fromarray(IDS), "BMP"),
    "BMP with a palette": encoded(with_palette(IDS), "BMP"),
    "TIFF": encoded(Image.fromarray(IDS), "TIFF"),
    "TIFF with LZW": encoded(Image.fromarray(IDS), "TIFF", compression="tiff_lzw"),
    "TIFF of 16 bits": encoded(Image.fromarray(IDS.astype(np.uint16)), "TIFF"),
    "TIFF of 32 bits": encoded(Image.fromarray(IDS.astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_lossless_kind_gives_the_same_ids(kind):
    assert np.array_equal(ids_of(KINDS[kind]), IDS)


def test_tensorflow_alone_would_read_other_ids():
    wrong = {kind: tf.io.decode_png(KINDS[kind], channels=1).numpy()[..., 0] for kind in ("palette", "16 bits")}
    assert set(np.unique(wrong["palette"])) == {0, 19, 33, 220}
    assert set(np.unique(wrong["16 bits"])) == {0}


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_are_not_spread(bits):
    ids = IDS % 2 if bits == 1 else np.where(IDS == 255, 2, IDS).astype(np.uint8)
    tensor = tf.constant(ids)
    assert np.array_equal(ids_of(few_bits(tensor.numpy(), bits)), ids)


def few_bits(ids: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, which Pillow does not write."""
    import struct
    import zlib

    height, width = ids.shape
    flat = np.unpackbits(ids[..., None], axis=2)[..., 8 - bits :].reshape(height, width * bits)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in flat)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_are_read_by_the_label_map():
    assert np.array_equal(ids_of(encoded(in_colours(IDS)), BY_COLOUR), IDS)
    assert np.array_equal(ids_of(encoded(in_colours(IDS).convert("RGBA")), BY_COLOUR), IDS)


def test_a_palette_that_a_program_sorted_anew_is_read_by_its_colours():
    order = {0: 2, 1: 0, 2: 1, 255: 3}
    indices = np.vectorize(order.get)(IDS).astype(np.uint8)
    image = with_palette(indices, {colour: order[number] for colour, number in COLOURS.items()})
    assert np.array_equal(ids_of(encoded(image), BY_COLOUR), IDS)
    # Without a label map nothing says what the colours are, and the indices count.
    assert values_in(encoded(image), "a", MOST_PIXELS) == {0, 1, 2, 3}


def test_a_palette_of_other_colours_is_read_by_its_indices():
    image = with_palette(IDS, {Colour(9, 9, 9): 0, Colour(200, 0, 0): 1, Colour(0, 200, 0): 2})
    assert np.array_equal(ids_of(encoded(image), BY_COLOUR), IDS)


def test_trimaps_count_from_one():
    trimap = np.array([[1, 2], [3, 255]], np.uint8)
    ids = ids_of(encoded(Image.fromarray(trimap)), TRIMAPS, width=2, height=2)
    assert ids.tolist() == [[0, 1], [2, 255]]
    assert rejection(encoded(Image.fromarray(trimap - 1)), TRIMAPS, width=2, height=2)[0] == "mask_unknown_value"


def test_counts_and_hash_are_those_of_the_ids():
    def mask(content, classes=BY_VALUE):
        return read_mask(content, "a", classes, facts(), MOST_PIXELS)

    grey = mask(KINDS["grey"])
    assert grey.pixels == {int(number): int((number == IDS).sum()) for number in np.unique(IDS)}
    hashes = {mask(content).content_hash for content in KINDS.values()}
    assert hashes == {grey.content_hash}
    assert len(grey.content_hash) == 64
    corrected = IDS.copy()
    corrected[5, 5] = (IDS[5, 5] + 1) % 3
    assert mask(encoded(Image.fromarray(corrected))).content_hash != grey.content_hash
    assert BY_VALUE.names_of(grey.pixels) == list(NAMES)


@pytest.mark.parametrize(
    ("image_format", "options", "says"),
    [
        ("JPEG", {"quality": 100}, "in the format JPEG, which is lossy"),
        ("WEBP", {"lossless": True}, "in the format WebP, which is lossy"),
        ("GIF", {}, "in the format GIF, which may number the classes anew"),
        ("TIFF", {"compression": "jpeg"}, "in the format TIFF, compressed as jpeg, which is lossy"),
    ],
)
def test_formats_that_change_ids_are_refused(image_format, options, says):
    image = Image.fromarray(IDS)
    reason, detail = rejection(
        encoded(image.convert("RGB") if image_format == "WEBP" else image, image_format, **options)
    )
    assert reason == "mask_not_lossless"
    assert detail == f"has a mask, masks/a.png, {says}; export the mask again as a PNG."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "that is empty (0 bytes); save the mask as a PNG."),
        (b"<html><body>404</body></html>", "that is an HTML page, not an image; save the mask as a PNG."),
        (b"\x00\x05\x16\x07" + bytes(99), "is an AppleDouble sidecar of macOS"),
        (KINDS["grey"][:-30], "that is truncated; copy it again"),
        (KINDS["grey"][:30] + bytes(40), "truncated; copy it again"),
        (encoded(Image.fromarray(IDS.astype(np.float32)), "TIFF"), "with pixels of the kind F"),
    ],
)
def test_files_that_are_no_masks(content, says):
    reason, detail = rejection(content)
    assert reason == "mask_unreadable"
    assert detail.startswith("has a mask, masks/a.png, ")
    assert says in detail


def test_a_mask_of_too_many_pixels_is_not_decoded():
    with pytest.raises(PhotoRejected, match=r"of 12 x 8 pixels, more than data.max_pixels \(95\)"):
        values_in(KINDS["grey"], "a", 95)


def test_another_size():
    reason, detail = rejection(KINDS["grey"], width=24, height=16)
    assert reason == "mask_size_differs"
    assert detail == (
        "has a mask, masks/a.png, of 12 x 8 pixels, but is 24 x 16 pixels; export the mask again at the size of the "
        "photo."
    )


def test_the_stored_size_of_a_turned_photo_has_its_own_sentence():
    reason, detail = rejection(KINDS["grey"], width=8, height=12, orientation=6)
    assert reason == "mask_size_differs"
    assert "but is 8 x 12 pixels as it is seen: the photo is stored as 12 x 8 and turned by its Exif" in detail
    assert detail.endswith("turn the mask alike, or save the photo upright without the orientation.")
    # The same sizes without an orientation.
    assert "so one of the two was turned" in rejection(KINDS["grey"], width=8, height=12)[1]
    # An upright mask of a turned photo is right.
    assert ids_of(KINDS["grey"], orientation=6).shape == (8, 12)


def test_an_unknown_value_is_told_with_its_share_and_the_known_ones():
    ids = np.zeros(SIZE[::-1], np.uint8)
    ids[:2] = 7
    ids[7, 0] = 9
    reason, detail = rejection(encoded(Image.fromarray(ids)))
    assert reason == "mask_unknown_value"
    assert detail == (
        "has a mask, masks/a.png, with the value 7 in 25.0% of its pixels; expected 0 background, 1 cat, 2 dog, or 255 "
        "for pixels to leave out; correct the mask or classes.txt."
    )


def test_ids_from_one_are_told_to_start_at_zero():
    ids = np.where(IDS == 255, 255, IDS + 1).astype(np.uint8)
    reason, detail = rejection(encoded(Image.fromarray(ids)))
    assert reason == "mask_unknown_value"
    assert "with the value 3 in" in detail
    assert "; subtract 1 from every value, or correct the mask" in detail


def test_more_than_8_bits_are_an_unknown_value():
    ids = IDS.astype(np.uint16)
    ids[4:] = 300
    assert "with the value 300 in 50.0% of its pixels" in rejection(encoded(Image.fromarray(ids)))[1]


def test_colours_without_a_label_map():
    reason, detail = rejection(encoded(in_colours(IDS)))
    assert reason == "mask_unknown_value"
    assert "in colours (0,0,0, 64,0,0, 64,0,128, 224,224,192), but no label map says" in detail
    assert "add a labelmap.txt with a line such as 'cat:64,0,0::'" in detail


def test_a_colour_that_the_label_map_lacks():
    image = in_colours(IDS)
    image.paste((1, 2, 3), (0, 4, 12, 8))
    reason, detail = rejection(encoded(image), BY_COLOUR)
    assert reason == "mask_unknown_value"
    assert "with the colour 1,2,3 in 50.0% of its pixels, which labelmap.txt does not list" in detail


def test_a_mask_in_which_nothing_counts():
    reason, detail = rejection(encoded(Image.fromarray(np.full(SIZE[::-1], 255, np.uint8))))
    assert reason == "mask_all_ignored"
    assert "of which every pixel is left out (value 255)" in detail
