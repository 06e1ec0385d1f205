"""The preprocessing ops: one expected value eagerly, in a graph and in tf.data; orientation and formats."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from components.transform import image_ops  # isort: skip (before TensorFlow: it sets the Keras version)
import tensorflow as tf

ORIENTATION = 0x0112
STRING = tf.TensorSpec([], tf.string)
exif_orientation = tf.function(image_ops.exif_orientation, input_signature=[STRING])
decode_image = tf.function(image_ops.decode_image, input_signature=[STRING])

# 2 x 2 pixels, exactly kept by PNG; red channel 0, 100, 200, 255, the others 10 and 20.
SMALL = np.array([[[0, 10, 20], [100, 10, 20]], [[200, 10, 20], [255, 10, 20]]], np.uint8)


def encode(image, image_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def scene(width=64, height=48):
    """A smooth picture without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x * y) % 97], -1).astype(np.uint8))


def with_orientation(image, orientation, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(image, "JPEG", quality=95, subsampling=0, exif=exif, **options)


def exif_jpeg(tiff, before=b"", length=None):
    """The head of a JPEG whose Exif segment holds `tiff`."""
    length = len(tiff) + 8 if length is None else length
    return b"\xff\xd8" + before + b"\xff\xe1" + struct.pack(">H", length) + b"Exif\0\0" + tiff


def directory(order, *entries):
    """A TIFF header with one directory; an entry is tag, type and its 4 bytes of value."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    lines = b"".join(struct.pack(f"{order}HHI", tag, kind, 1) + value for tag, kind, value in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + lines + bytes(4)


def eagerly(op, photo_bytes):
    return op(tf.constant(photo_bytes))


def in_a_graph(op, photo_bytes):
    return tf.function(op, input_signature=[STRING])(photo_bytes)


def in_tf_data(op, photo_bytes):
    return next(iter(tf.data.Dataset.from_tensors(photo_bytes).map(op)))


EVERYWHERE = pytest.mark.parametrize("run", [eagerly, in_a_graph, in_tf_data])


@EVERYWHERE
def test_decode_image_has_one_value_everywhere(run):
    pixels = run(image_ops.decode_image, encode(Image.fromarray(SMALL)))
    assert pixels.dtype == tf.uint8
    np.testing.assert_array_equal(pixels, SMALL)


@EVERYWHERE
def test_exif_orientation_has_one_value_everywhere(run):
    orientation = run(image_ops.exif_orientation, with_orientation(scene(), 6))
    assert orientation.dtype == tf.int32
    assert int(orientation) == 6


@EVERYWHERE
@pytest.mark.parametrize(
    ("size", "method", "antialias", "red"),
    [
        # Half-pixel centres: a new pixel lies a quarter of an old one from the nearest.
        (4, "bilinear", False, [[0, 25, 75, 100], [50, 72.1875, 116.5625, 138.75],
                                [150, 166.5625, 199.6875, 216.25], [200, 213.75, 241.25, 255]]),
        (4, "bilinear", True, [[0, 25, 75, 100], [50, 72.1875, 116.5625, 138.75],
                               [150, 166.5625, 199.6875, 216.25], [200, 213.75, 241.25, 255]]),
        (1, "area", False, [[138.75]]),
        (1, "bilinear", False, [[138.75]]),
        (1, "bilinear", True, [[138.75]]),
        (2, "bicubic", True, [[0, 100], [200, 255]]),
    ],
)  # fmt: skip
def test_photo_to_unit_range_has_one_value_everywhere(run, size, method, antialias, red):
    square = run(
        lambda photo_bytes: image_ops.photo_to_unit_range(photo_bytes, size, method, antialias),
        encode(Image.fromarray(SMALL)),
    )
    assert square.dtype == tf.float32
    expected = np.stack([red, np.full((size, size), 10), np.full((size, size), 20)], axis=-1) / 255
    np.testing.assert_allclose(square, expected, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_equals_its_photos_and_may_be_empty(compiled):
    batch_op = image_ops.photos_to_unit_range
    if compiled:
        batch_op = tf.function(batch_op, reduce_retracing=True)
    photos = [encode(scene()), encode(scene(30, 50), "BMP"), with_orientation(scene(33, 20), 8)]
    batch = batch_op(tf.constant(photos), 16, "bilinear", True)
    assert batch.shape == [3, 16, 16, 3]
    for square, photo_bytes in zip(batch, photos, strict=True):
        alone = image_ops.photo_to_unit_range(tf.constant(photo_bytes), 16, "bilinear", True)
        np.testing.assert_array_equal(square, alone)
    empty = batch_op(tf.constant([], tf.string), 16, "bilinear", True)
    assert empty.shape == [0, 16, 16, 3]


def test_the_batch_op_knows_its_shape_in_a_graph_and_survives_export(tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda photos: image_ops.photos_to_unit_range(photos, 8, "bicubic", False),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    concrete = module.serve.get_concrete_function()
    assert concrete.structured_outputs.shape.as_list() == [None, 8, 8, 3]
    assert not {op.type for op in concrete.graph.get_operations()} & {"PyFunc", "EagerPyFunc"}
    tf.saved_model.save(module, str(tmp_path))
    photos = tf.constant([with_orientation(scene(), 5)])
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path)).serve(photos), module.serve(photos))


def test_bicubic_stays_in_range():
    checks = Image.fromarray(np.indices((6, 6)).sum(0).astype(np.uint8) % 2 * 255)
    square = image_ops.photo_to_unit_range(tf.constant(encode(checks)), 31, "bicubic", False).numpy()
    assert (square.min(), square.max()) == (0.0, 1.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_as_pillow_turns_it(orientation):
    photo_bytes = with_orientation(scene(40, 24), orientation)
    assert int(exif_orientation(photo_bytes)) == orientation
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(photo_bytes))).convert("RGB")
    for method, antialias in (("bilinear", False), ("bilinear", True), ("bicubic", False), ("area", False)):
        turned_last = image_ops.photo_to_unit_range(tf.constant(photo_bytes), 12, method, antialias)
        turned_first = tf.image.resize(np.asarray(upright), [12, 12], method=method, antialias=antialias) / 255
        np.testing.assert_allclose(turned_last, tf.clip_by_value(turned_first, 0, 1), atol=1e-5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_integer_types(order):
    short, long = struct.pack(f"{order}HH", 6, 0xFFFF), struct.pack(f"{order}I", 8)
    assert int(exif_orientation(exif_jpeg(directory(order, (ORIENTATION, 3, short))))) == 6
    assert int(exif_orientation(exif_jpeg(directory(order, (ORIENTATION, 4, long))))) == 8
    others = [(0x010F, 2, b"abc\0"), (ORIENTATION, 3, short), (0x0131, 2, b"abc\0")]
    assert int(exif_orientation(exif_jpeg(directory(order, *others)))) == 6


def test_exif_after_a_jfif_segment_is_found():
    jfif = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    tiff = directory("<", (ORIENTATION, 3, b"\3\0\0\0"))
    assert int(exif_orientation(exif_jpeg(tiff, before=jfif))) == 3


GOOD = directory(">", (ORIENTATION, 3, b"\0\6\0\0"))


@pytest.mark.parametrize(
    "photo_bytes",
    [
        b"", b"\xff", b"\xff\xd8\xff", b"Exif\0\0", b"\xff\xd8\xffExif\0\0" + GOOD,
        b"\x89PNG\r\n\x1a\n" + exif_jpeg(GOOD),
        exif_jpeg(b""), exif_jpeg(GOOD[:12]), exif_jpeg(GOOD, length=0), exif_jpeg(GOOD, length=20),
        exif_jpeg(b"XX" + GOOD[2:]), exif_jpeg(GOOD[:4] + b"\xff\xff\xff\xff" + GOOD[8:]),
        exif_jpeg(directory("<")), exif_jpeg(directory("<", (ORIENTATION, 3, b"\0\0\0\0"))),
        exif_jpeg(directory("<", (ORIENTATION, 3, b"\x09\0\0\0"))),
        encode(scene(), "JPEG"),
    ],
)  # fmt: skip
def test_an_odd_header_means_upright(photo_bytes):
    assert int(exif_orientation(photo_bytes)) == 1


def test_a_count_beyond_the_end_still_reads_what_is_there():
    tiff = GOOD[:8] + b"\xff\xff" + GOOD[10:]
    assert int(exif_orientation(exif_jpeg(tiff))) == 6


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_exif_orientation_never_fails(noise, inside):
    assert 1 <= int(exif_orientation(exif_jpeg(noise) if inside else noise)) <= 8


def rgba():
    image = scene()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize(
    ("image", "image_format", "options"),
    [
        (scene(), "JPEG", {}),
        (scene(), "JPEG", {"progressive": True}),
        (scene(), "JPEG", {"subsampling": 0, "quality": 50}),
        (scene().convert("L"), "JPEG", {}),
        (scene().convert("CMYK"), "JPEG", {}),
        (scene(), "PNG", {}),
        (rgba(), "PNG", {}),
        (rgba().convert("LA"), "PNG", {}),
        (scene().convert("L"), "PNG", {}),
        (scene().convert("1"), "PNG", {}),
        (scene().quantize(32), "PNG", {"transparency": 3}),
        (scene().quantize(32), "GIF", {}),
        (
            scene().quantize(32),
            "GIF",
            {"save_all": True, "append_images": [scene().rotate(180).quantize(32)]},
        ),
        (scene(), "BMP", {}),
        (scene(61, 7), "BMP", {}),
        (scene().convert("L"), "BMP", {}),
        (rgba(), "BMP", {}),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "-".join(value),
)
def test_decode_equals_pillow(image, image_format, options):
    photo_bytes = encode(image, image_format, **options)
    opened = Image.open(io.BytesIO(photo_bytes))
    opened.load()
    shown = opened.convert("RGBA")
    if image_format == "PNG":
        shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    expected = np.asarray(shown.convert("RGB"), np.int16)
    assert np.abs(decode_image(photo_bytes).numpy() - expected).max() <= (1 if opened.has_transparency_data else 0)
