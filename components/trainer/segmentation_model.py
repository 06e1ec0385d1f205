"""Export of a whole segmentation model: the photo's file in, a mask of its size out."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from components.backbone.layer import Encoder
from components.example_gen.photo_rules import PhotoRules
from components.legacy_keras import tf_keras
from components.trainer.served import Served
from components.transform import image_ops
from components.transform.mask_ops import ids_at_size

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
            [*encoder.resolved_object.variables, *decoder.variables],
            vectors=lambda images: encoder.resolved_object(images, training=False),
            logits=lambda images: decoder(encoder(images), training=False),
            temperature=temperature,
        )
        # Traced once for the masks and the probabilities.
        self._logits = tf.function(self._logits, input_signature=self.probabilities_of_images.input_signature)

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
