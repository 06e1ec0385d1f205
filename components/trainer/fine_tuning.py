"""Phase two: warm-started from phase one, the top of the backbone learns too."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone import feature_vector, registry
from components.backbone.layer import FeatureVector, last_fraction
from components.legacy_keras import tf_keras
from components.records import matching_files, read_records
from components.trainer import loop, serving_model, warm_start
from components.trainer.model import build_head
from components.transform.graph import load_transform
from schemas import features as f
from schemas import schema_files

# Of an unknown backbone, this share of the kernels learns unless the configuration says which.
_DEFAULT_FRACTION = 0.2
_SHUFFLED_PHOTOS = 2048


def run_fn(fn_args: FnArgs) -> None:
    """Fine-tunes the base model and exports the whole model (called by TFX Trainer)."""
    settings: dict[str, Any] = fn_args.custom_config
    tf_keras.utils.set_random_seed(settings["seed"])
    labels = schema_files.labels(schema_files.read_schema(fn_args.schema_path))
    transform = load_transform(fn_args.transform_graph_path)
    module_path = str(feature_vector.resolve(settings["backbone"]))
    backbone = FeatureVector(module_path, unfreeze_pattern(settings, module_path))

    train_files = matching_files(fn_args.train_files)
    train_data = photo_batches(train_files, transform, labels, settings["batch_size"], settings["seed"])
    eval_data = photo_batches(matching_files(fn_args.eval_files), transform, labels, settings["batch_size"])

    images = tf_keras.Input(train_data.element_spec[0].shape[1:])
    vectors = backbone(images)
    head = build_head(vectors.shape[-1], len(labels), settings["dropout"], settings["seed"])
    model = tf_keras.Model(images, head(vectors))
    copied = warm_start.copy_by_name(
        warm_start.read_variables(fn_args.base_model), [*backbone.resolved_object.variables, *head.variables]
    )
    history = loop.train(model, train_data, eval_data, settings, fn_args.model_run_dir)
    history["warm_start"] = {"matched": len(copied.matched), "unused": copied.unused}
    loop.write_history(history, fn_args.model_run_dir)
    serving_model.export(fn_args.serving_model_dir, transform, backbone, head, labels)


def unfreeze_pattern(settings: dict[str, Any], module_path: str) -> str:
    """Which variables learn: the configuration's, the known backbone's own, or the last fifth of the kernels."""
    if settings["unfreeze"] is not None:
        return settings["unfreeze"]
    known = registry.BACKBONES.get(settings["backbone"])
    if known is not None:
        return known.unfreeze
    # Vectors are biases and batch norm's scales; these stay as they are.
    names = [v.name for v in tf.saved_model.load(module_path).trainable_variables if v.shape.rank > 1]
    return last_fraction(names, _DEFAULT_FRACTION)


def photo_batches(
    files: list[str], transform, labels: list[str], batch_size: int, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches of (float32 [batch, size, size, 3] in [0, 1], int64 [batch] class indices), decoded as they are read.

    The order is the files'; with `shuffle_seed`, shuffled anew each epoch, the same way for the same seed.
    """
    spec = {
        f.IMAGE: tf.io.FixedLenFeature([], tf.string),
        f.LABEL: tf.io.FixedLenFeature([], tf.string),
    }
    index = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(labels, tf.range(len(labels), dtype=tf.int64)), default_value=-1
    )

    def decode(records):
        examples = tf.io.parse_example(records, spec)
        return transform(examples[f.IMAGE]), index.lookup(examples[f.LABEL])

    records = read_records(files)
    if shuffle_seed is not None:
        # Keras runs into the end of data of unknown size, and the optimizer counts a step that was none.
        size = records.reduce(tf.constant(0, tf.int64), lambda count, _: count + 1)
        records = records.apply(tf.data.experimental.assert_cardinality(size))
        records = records.shuffle(_SHUFFLED_PHOTOS, seed=shuffle_seed)
    return records.batch(batch_size).map(decode, num_parallel_calls=2).prefetch(2)
