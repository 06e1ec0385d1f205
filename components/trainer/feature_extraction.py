"""Phase one: a new head on the frozen backbone, trained on the vectors that FeatureVectorGen stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from components.backbone import feature_vector
from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from components.records import matching_files, read_examples, text
from components.trainer import loop, serving_model
from components.trainer.model import build_head
from components.transform.graph import load_transform
from schemas import features as f
from schemas import schema_files


def run_fn(fn_args: FnArgs) -> None:
    """Trains the head and exports the whole model (called by TFX Trainer)."""
    settings: dict[str, Any] = fn_args.custom_config
    tf_keras.utils.set_random_seed(settings["seed"])
    labels = schema_files.labels(schema_files.read_schema(fn_args.schema_path))
    train_vectors, train_classes = read_vectors(matching_files(fn_args.train_files), labels)
    eval_vectors, eval_classes = read_vectors(matching_files(fn_args.eval_files), labels)

    head = build_head(train_vectors.shape[1], len(labels), settings["dropout"], settings["seed"])
    train_data = (
        tf.data.Dataset.from_tensor_slices((train_vectors, train_classes))
        .shuffle(len(train_vectors), seed=settings["seed"])
        .batch(settings["batch_size"])
    )
    eval_data = tf.data.Dataset.from_tensor_slices((eval_vectors, eval_classes)).batch(1024)
    history = loop.train(head, train_data, eval_data, settings, fn_args.model_run_dir)
    loop.write_history(history, fn_args.model_run_dir)

    backbone = FeatureVector(str(feature_vector.resolve(settings["backbone"])))
    transform = load_transform(fn_args.transform_graph_path)
    serving_model.export(fn_args.serving_model_dir, transform, backbone, head, labels)


def read_vectors(files: list[str], labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of a split in the order of their content hashes, whatever order a runner wrote them in.

    Returns:
      vectors, float32 [examples, width], and class indices, int64 [examples].
    """
    index = {label: i for i, label in enumerate(labels)}
    rows = sorted(
        (text(example, f.CONTENT_HASH), text(example, f.FILE_NAME), index[text(example, f.LABEL)], vector)
        for example in read_examples(files)
        for vector in [tuple(example.features.feature[f.FEATURE_VECTOR].float_list.value)]
    )
    return np.array([row[3] for row in rows], np.float32), np.array([row[2] for row in rows], np.int64)
