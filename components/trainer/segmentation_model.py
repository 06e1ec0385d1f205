"""Export of a whole segmentation model: the photo's file in, a mask of its size out."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from components.backbone.layer import Encoder
from components.example_gen.photo_rules import PhotoRules
from components.legacy_keras import tf_keras
from components.trainer.served import Served
from components.transform import image_ops

# Numbers that the logits of one strip of a mask may have: what is in memory at once does not grow with the photo.
_STRIP_VALUES = 2**21
_PHOTOS_AT_ONCE = 2


def upright_size(photo_bytes: tf.Tensor) -> tf.Tensor:
    """Height and width of a photo as people see it, pixels, int32 [2].

    Args:
      photo_bytes: string scalar, see `image_ops.decode_image`; a JPEG's header is enough.
    """
    is_jpeg = tf.strings.substr(photo_bytes, 0, 3) == b"\xff\xd8\xff"
    stored = tf.cond(
        is_jpeg,
        lambda: tf.io.extract_jpeg_shape(photo_bytes)[:2],
        lambda: tf.shape(image_ops.decode_image(photo_bytes))[:2],
    )
    return tf.where(image_ops.exif_orientation(photo_bytes) >= 5, stored[::-1], stored)


def ids_at_size(logits: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The likeliest class of each pixel of a photo: logits resized bilinearly, then the largest one.

    The result is made in strips of rows, so that the resized logits of a large photo are never in memory together.

    Args:
      logits: float32 [size, size, classes], at most 255 classes.
      height, width: of the photo, pixels.

    Returns:
      uint8 [height, width].
    """
    size, classes = logits.shape[0], logits.shape[-1]
    rows = tf.clip_by_value(_STRIP_VALUES // (width * classes), 1, height)

    def strip(first: tf.Tensor) -> tf.Tensor:
        # Pixels are counted from their centres, as in tf.image.resize.
        places = (tf.cast(first + tf.range(rows), tf.float32) + 0.5) * (size / tf.cast(height, tf.float32)) - 0.5
        lower = tf.floor(places)
        share = (places - lower)[:, tf.newaxis, tf.newaxis]
        above, below = (
            tf.gather(logits, tf.clip_by_value(tf.cast(lower, tf.int32) + step, 0, size - 1)) for step in (0, 1)
        )
        wide = tf.image.resize(above + (below - above) * share, [rows, width], "bilinear")
        return tf.cast(tf.argmax(wide, axis=-1, output_type=tf.int32), tf.uint8)

    strips = tf.map_fn(
        strip,
        tf.range(0, height, rows),
        fn_output_signature=tf.TensorSpec([None, None], tf.uint8),
        parallel_iterations=1,
    )
    return tf.reshape(strips, [-1, width])[:height]


class ServedSegmenter(Served):
    """What is served of a segmentation.

    Signatures: those of `Served`, of which `serving_default` and `serve_examples` give `mask_png_bytes` string [batch],
    PNG with one grey channel, the ids of the classes at the photo's upright size, and `class_shares` float32 [batch,
    classes], of its pixels. TensorFlow Serving's REST gives `{"b64": ...}` for an output that ends in `_bytes`. And:
      `probabilities`: `image_bytes` -> `probabilities` float32 [batch, size, size, classes], at the model's size.
    """

    signature_names = (*Served.signature_names, "probabilities")

    def __init__(
        self,
        transform: Callable[[tf.Tensor], tf.Tensor],
        encoder: Encoder,
        decoder: tf_keras.Model,
        temperature: float,
    ):
        super().__init__(
            transform,
            encoder.resolved_object,
            decoder,
            vectors=lambda images: encoder.pyramid.with_vectors(images)[0],
            logits=lambda images: decoder(encoder(images), training=False),
            temperature=temperature,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _answer(self, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._logits(self._transform(photo_bytes))
        classes = logits.shape[-1]

        def mask(photo: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            height, width = tf.unstack(upright_size(photo[0]))
            ids = ids_at_size(photo[1], height, width)
            counts = tf.math.bincount(tf.cast(ids, tf.int32), minlength=classes, maxlength=classes)
            shares = tf.cast(counts / (height * width), tf.float32)
            return tf.io.encode_png(ids[..., tf.newaxis]), shares

        signature = (tf.TensorSpec([], tf.string), tf.TensorSpec([classes], tf.float32))
        pngs, shares = tf.map_fn(
            mask, (photo_bytes, logits), fn_output_signature=signature, parallel_iterations=_PHOTOS_AT_ONCE
        )
        return {"mask_png_bytes": pngs, "class_shares": shares}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def probabilities(self, image_bytes):
        return {"probabilities": self.probabilities_of_images(self._transform(image_bytes))}


def export(
    folder: str,
    transform: Callable[[tf.Tensor], tf.Tensor],
    encoder: Encoder,
    decoder: tf_keras.Model,
    labels: list[str],
    temperature: float = 1.0,
    rules: PhotoRules = PhotoRules(),  # noqa: B008  (it cannot be changed)
) -> None:
    """Writes a `ServedSegmenter` to `folder`, and beside it the names of its classes and what photos it takes.

    Args:
      folder: where it goes.
      transform: photos' bytes to images, with the attribute `layer`, as `load_transform` gives it.
      encoder, decoder: images to logits, float32 [batch, size, size, classes].
      labels: names of the pixels' classes in the order of their ids.
      temperature: what the logits are divided by, above 0; 1 leaves them as they are.
      rules: by which the photos that it learnt from were read.
    """
    ServedSegmenter(transform, encoder, decoder, temperature).save(folder, labels, rules)
