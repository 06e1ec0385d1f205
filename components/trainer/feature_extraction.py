"""Phase one: a head on the frozen backbone, trained on the vectors that FeatureVectorGen stored."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.backbone import feature_vector
from components.backbone.layer import FeatureVector
from components.example_gen.photo_rules import PhotoRules
from components.legacy_keras import tf_keras
from components.records import matching_files
from components.trainer import calibration, loop, serving_model, warm_start
from components.trainer.devices import training_devices
from components.trainer.model import Classifier, build_head
from components.trainer.optimization import class_weights, tuned
from components.trainer.training_data import StoredRows, TrainingData, example_files, read_photos, read_rows
from components.transform.augmentation import Augmentation
from components.transform.graph import load_transform
from schemas import features as f
from schemas import schema_files


def run_fn(fn_args: FnArgs) -> None:
    """Trains the head and exports the whole model (called by TFX Trainer)."""
    settings = tuned(fn_args.custom_config, fn_args.hyperparameters)
    tf_keras.utils.set_random_seed(settings["seed"])
    labels = schema_files.labels(schema_files.read_schema(fn_args.schema_path))
    transform = load_transform(fn_args.transform_graph_path)
    files = [matching_files(patterns) for patterns in (fn_args.train_files, fn_args.eval_files)]
    decides = [settings, labels, *files]
    resume_file = loop.resume_file(settings["resume_folder"], "feature_extraction", decides)
    module_path = str(feature_vector.resolve(settings["backbone"]))

    def new_head(width: int) -> tf_keras.Model:
        return build_head(width, len(labels), settings["hidden_units"], settings["dropout"], settings["seed"])

    with tempfile.TemporaryDirectory() as folder, training_devices(settings["mixed_precision"]) as devices:
        train_data: TrainingData
        eval_data: TrainingData
        online = settings["augmentation_mode"] == "online"
        if online:
            augmentation = Augmentation(**settings["augmentation"])
            train_data = read_photos(example_files(files[0], f.IMAGE), transform, labels, augmentation)
            eval_data = read_photos(example_files(files[1], f.IMAGE), transform, labels)
        else:
            train_data, eval_data = (
                read_rows(example_files(split, f.FEATURE_VECTOR), labels, f.FEATURE_VECTOR, folder) for split in files
            )
        with devices.strategy.scope():
            backbone = FeatureVector(hub.load(module_path))
            if isinstance(train_data, StoredRows):
                inputs = vectors = tf_keras.Input([train_data.values.shape[1]])
            else:
                inputs = tf_keras.Input([settings["image_size"], settings["image_size"], 3])
                vectors = backbone(inputs)
            head = new_head(vectors.shape[-1])
        started, epochs = _warm_start(settings, devices.strategy, backbone, head, labels, transform, files[1])
        with devices.strategy.scope():
            balanced = settings["class_weights"] == "balanced"
            weights = class_weights(train_data.classes, len(labels)) if balanced else None
            model = Classifier(inputs, head(vectors), class_weights=weights)
            history = loop.train(
                model,
                train_data,
                eval_data,
                {**settings, "epochs": epochs},
                fn_args.model_run_dir,
                resume_file=resume_file,
                scale_loss=devices.scale_loss,
            )
            if online and settings["calibrate"]:  # the backbone is frozen, so its cached vectors answer for the photos
                eval_data = read_rows(example_files(files[1], f.FEATURE_VECTOR), labels, f.FEATURE_VECTOR, folder)
                cached = tf_keras.Input([vectors.shape[-1]])
                model = Classifier(cached, head(cached))
        calibrated = calibration.calibrate(model, eval_data, settings)
    how = "photos changed anew in each epoch, through the frozen backbone" if online else "cached feature vectors"
    history |= {
        "strategy": "feature_extraction",
        "trained_on": how,
        "devices": devices.note,
        "calibration": calibrated,
        "warm_start": started,
    }
    loop.write_history(history, fn_args.model_run_dir)
    if devices.strategy.num_replicas_in_sync > 1:
        backbone, head = serving_model.on_one_device(module_path, backbone, head, new_head(vectors.shape[-1]))
    serving_model.export(
        fn_args.serving_model_dir,
        transform,
        backbone,
        head,
        labels,
        calibrated["temperature"],
        settings["abstain_below"],
        cached="vectors",
        rules=PhotoRules.of(settings),
    )
    if resume_file and fileio.exists(resume_file):
        fileio.remove(resume_file)


def _warm_start(
    settings: dict[str, Any],
    strategy: tf.distribute.Strategy,
    backbone: FeatureVector,
    head: tf_keras.Model,
    labels: list[str],
    transform: Callable[[tf.Tensor], tf.Tensor],
    eval_files: list[str],
) -> tuple[dict[str, Any] | None, int]:
    """Starts the head from that of the model asked for; what it did, for the history, or None; and epochs to train.

    A head that learnt on a backbone that was fine-tuned does not fit the published one's vectors: ours begins anew.
    """
    chooses = settings["variables_to_warm_start"] != ".*" or settings["renamed"]
    if settings["warm_start_from"] == "feature_extraction" or chooses:
        return None, settings["epochs"]
    published = backbone.resolved_object.variables
    photos = warm_start.some_photos(example_files(eval_files, f.IMAGE))
    source, told = warm_start.find_source(
        settings["warm_start_from"], settings["warm_start_folder"], [*published, *head.variables], transform, photos
    )
    if source is None or not all(np.array_equal(source.values[v.name], v.numpy()) for v in published):
        return None, settings["epochs"]
    matches = warm_start.copy_by_name(source, head.variables, labels)
    images = transform(photos)
    proof = warm_start.step_zero(strategy, lambda: head(backbone(images)), source, labels, photos)
    return {"source": told, "step_zero": proof, **asdict(matches)}, warm_start.epochs(settings, matches)
