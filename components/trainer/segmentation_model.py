"""Export of a whole segmentation model: the photo's file in, a mask of its size out."""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf
from tfx.dsl.io import fileio

from components.backbone.layer import Encoder
from components.example_gen.photo_rules import INPUT_FILE, PhotoRules, as_json
from components.legacy_keras import tf_keras
from components.transform import image_ops
from schemas.features import IMAGE
from schemas.labels import write_labels

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


class ServedSegmenter(tf.Module):
    """What is served: the Transform graph, the backbone and the decoder in one SavedModel.

    Signatures:
      `serving_default`: `image_bytes` string [batch] -> `mask_png_bytes` string [batch], PNG with one grey channel,
        the ids of the classes at the photo's upright size; `class_shares` float32 [batch, classes], of its pixels.
        TensorFlow Serving's REST takes `{"b64": ...}` for a photo, and gives it for an output that ends in `_bytes`.
      `serve_examples`: `examples` string [batch], serialised tf.Example with the feature `image` -> the same.
      `probabilities`: `image_bytes` -> `probabilities` float32 [batch, size, size, classes], at the model's size.
      `transform_features`: `examples` -> `image` float32 [batch, size, size, 3], range [0, 1].
      `feature_vector`: `image_bytes` -> `feature_vector` float32 [batch, width].

    Beside them, once it is loaded again:
      `probabilities_of_images`: a function of images float32 [batch, size, size, 3], range [0, 1], to probabilities
        float32 [batch, size, size, classes]: all that comes after the Transform graph.
      `temperature`: float32 variable; probabilities are softmax(logits / temperature).
      `model_variables`: every variable of the backbone and the decoder under its own name.
    """

    def __init__(
        self,
        transform: Callable[[tf.Tensor], tf.Tensor],
        encoder: Encoder,
        decoder: tf_keras.Model,
        temperature: float,
    ):
        super().__init__()
        # Both are traced once, not once a signature.
        self._transform = tf.function(transform, input_signature=[tf.TensorSpec([None], tf.string)])
        image_shape = self._transform.get_concrete_function().structured_outputs.shape[1:]
        self.probabilities_of_images = tf.function(
            self._probabilities, input_signature=[tf.TensorSpec([None, *image_shape], tf.float32, name="images")]
        )
        self.transform_layer = transform.layer  # type: ignore[attr-defined]
        self.backbone = encoder.resolved_object
        # Functions and no attributes, or Keras would trace the layers once more for the export.
        self._vectors = lambda images: encoder.pyramid.with_vectors(images)[0]
        self._logits = lambda images: decoder(encoder(images), training=False)
        # Read again by warm_start.read_source: every variable of the model under its own name.
        self.model_variables = [*encoder.resolved_object.variables, *decoder.variables]
        # A variable, since a SavedModel keeps no plain numbers; none of those above, since it is no part of a start.
        self.temperature = tf.Variable(temperature, trainable=False, dtype=tf.float32, name="temperature")

    def _probabilities(self, images: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self._logits(images) / self.temperature)

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

    @staticmethod
    def _photos(examples: tf.Tensor) -> tf.Tensor:
        return tf.io.parse_example(examples, {IMAGE: tf.io.FixedLenFeature([], tf.string)})[IMAGE]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        return self._answer(image_bytes)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve_examples(self, examples):
        return self._answer(self._photos(examples))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def probabilities(self, image_bytes):
        return {"probabilities": self.probabilities_of_images(self._transform(image_bytes))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(self, examples):
        return {IMAGE: self._transform(self._photos(examples))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def feature_vector(self, image_bytes):
        return {"feature_vector": self._vectors(self._transform(image_bytes))}


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
    served = ServedSegmenter(transform, encoder, decoder, temperature)
    names = ("serving_default", "serve_examples", "probabilities", "transform_features", "feature_vector")
    tf.saved_model.save(served, folder, signatures={name: getattr(served, name) for name in names})
    write_labels(folder, labels)
    with fileio.open(os.path.join(folder, INPUT_FILE), "w") as file:
        file.write(as_json(rules))
