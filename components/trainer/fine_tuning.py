"""Phase two: warm-started, usually from phase one, a part of the backbone learns too."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.io import fileio

from components.backbone import feature_vector, freezing
from components.backbone.cut import CannotCut, Cut, cut
from components.backbone.layer import FeatureVector, TopOfBackbone
from components.example_gen.photo_rules import PhotoRules
from components.legacy_keras import tf_keras
from components.records import matching_files, read_examples, text
from components.trainer import calibration, loop, serving_model, warm_start
from components.trainer.devices import training_devices
from components.trainer.model import Classifier, build_head
from components.trainer.optimization import class_weights, layer_multipliers, tuned, unfreeze_stages
from components.trainer.training_data import (
    StoredRows,
    TrainingData,
    count_photos,
    example_files,
    read_photos,
    read_rows,
)
from components.transform.augmentation import Augmentation
from components.transform.graph import load_transform
from schemas import features as f
from schemas import schema_files


def run_fn(fn_args: FnArgs) -> None:
    """Fine-tunes and exports the whole model (called by TFX Trainer)."""
    settings = tuned(fn_args.custom_config, fn_args.hyperparameters)
    tf_keras.utils.set_random_seed(settings["seed"])
    labels = schema_files.labels(schema_files.read_schema(fn_args.schema_path))
    transform = load_transform(fn_args.transform_graph_path)
    files = [matching_files(patterns) for patterns in (fn_args.train_files, fn_args.eval_files)]
    resume_file = loop.resume_file(
        settings["resume_folder"], "fine_tuning", [settings, labels, *files, fn_args.base_model]
    )
    module_path = str(feature_vector.resolve(settings["backbone"]))

    def new_head(width: int) -> tf_keras.Model:
        return build_head(width, len(labels), settings["hidden_units"], settings["dropout"], settings["seed"])

    with tempfile.TemporaryDirectory() as folder, training_devices(settings["mixed_precision"]) as devices:
        vectors = [example_files(split, f.FEATURE_VECTOR) for split in files]
        photos = [example_files(split, f.IMAGE) for split in files]
        eval_vectors = read_rows(vectors[1], labels, f.FEATURE_VECTOR, folder)
        width = eval_vectors.values.shape[1]
        with devices.strategy.scope():
            module = hub.load(module_path)
            head = new_head(width)
        variables = [*module.variables, *head.variables]
        published = {v.name: v.numpy() for v in module.variables}
        own_source = warm_start.read_source(fn_args.base_model)
        some_photos = warm_start.some_photos(photos[1])
        chosen = settings["variables_to_warm_start"], settings["renamed"]
        source, source_note = _source(settings, own_source, variables, transform, some_photos)
        if source is own_source:
            asked_for = settings["warm_start_from"] == "feature_extraction"
            matches = warm_start.copy_by_name(own_source, variables, labels, *(chosen if asked_for else ()))
        else:  # What the source does not give is as the run's own model has it.
            warm_start.copy_by_name(own_source, variables, labels)
            matches = warm_start.copy_by_name(source, variables, labels, *chosen)
            settings = {**settings, "epochs": warm_start.epochs(settings, matches)}
        strategy, why = settings["strategy"], ""
        if strategy == "auto":  # by the run's own head, whatever the source
            own_head = new_head(width)
            warm_start.copy_by_name(own_source, own_head.variables, labels)
            strategy, why = _choose(own_head, eval_vectors, count_photos(vectors[0]), len(labels))
        changed = {v.name for v in module.variables if not np.array_equal(v.numpy(), published[v.name])}
        learning = freezing.learning_variables(
            [v.name for v in module.trainable_variables],
            [v.name for v in module.variables],
            strategy,
            **(settings["unfreeze"] if strategy == "top" else {}),
        )

        inputs = _inputs(settings, module, learning, changed, devices.strategy, vectors)
        with devices.strategy.scope():
            backbone = FeatureVector(module, learning)
            model, train_data, eval_data = _model_and_data(
                inputs, settings, labels, transform, backbone, head, learning, vectors, photos, folder, eval_vectors
            )
        proof = "not compared, since not every variable came from the source"
        if matches.is_complete:
            images = transform(some_photos)
            proof = warm_start.step_zero(devices.strategy, lambda: head(backbone(images)), source, labels, some_photos)
        with devices.strategy.scope():
            history = loop.train(
                model,
                train_data,
                eval_data,
                settings,
                fn_args.model_run_dir,
                multipliers=layer_multipliers(learning, settings["block_rate"]) if settings["block_rate"] < 1 else None,
                stages=unfreeze_stages(learning, settings["stages"]) if settings["stages"] > 1 else None,
                resume_file=resume_file,
                scale_loss=devices.scale_loss,
            )
        calibrated = calibration.calibrate(model, eval_data, settings)
    history |= {
        "strategy": strategy,
        "strategy_reason": why,
        "trained_on": inputs.note,
        "devices": devices.note,
        "calibration": calibrated,
        "warm_start": {"source": source_note, "step_zero": proof, **asdict(matches)},
    }
    loop.write_history(history, fn_args.model_run_dir)
    if devices.strategy.num_replicas_in_sync > 1:
        backbone, head = serving_model.on_one_device(module_path, backbone, head, new_head(width))
    serving_model.export(
        fn_args.serving_model_dir,
        transform,
        backbone,
        head,
        labels,
        calibrated["temperature"],
        settings["abstain_below"],
        cached="vectors" if inputs.kind == "vectors" else inputs.cut,
        rules=PhotoRules.of(settings),
    )
    if resume_file and fileio.exists(resume_file):
        fileio.remove(resume_file)


def _choose(head: tf_keras.Model, eval_vectors: StoredRows, training_photos: int, classes: int) -> tuple[str, str]:
    """The strategy that `auto` stands for, and why."""
    answers = [np.argmax(head(vectors).numpy(), axis=1) for vectors, _, _ in eval_vectors.in_order(0)]
    accuracy = float(np.mean(np.concatenate(answers) == eval_vectors.classes))
    choice = freezing.choose_strategy(training_photos, classes, accuracy)
    return choice.strategy, choice.why


def _source(
    settings: dict[str, Any],
    own_source: warm_start.Source,
    variables: list[tf.Variable],
    transform: Callable[[tf.Tensor], tf.Tensor],
    photos: tf.Tensor,
) -> tuple[warm_start.Source, str]:
    """The model to start from, and which it is: the one asked for, or the run's own if that does not fit."""
    own = "this run's feature-extraction model"
    if settings["warm_start_from"] == "feature_extraction":
        return own_source, own
    source, told = warm_start.find_source(
        settings["warm_start_from"],
        settings["warm_start_folder"],
        variables,
        transform,
        photos,
        settings["variables_to_warm_start"],
        settings["renamed"],
    )
    return (source, told) if source else (own_source, own + told)


@dataclass(frozen=True)
class _Inputs:
    """What training runs on. kind: `vectors`, `activations` (above `cut`) or `photos`. note: the same in words."""

    kind: str
    note: str
    cut: Cut | None = None


def _inputs(
    settings: dict[str, Any],
    module: Any,
    learning: list[str],
    changed: set[str],
    strategy: tf.distribute.Strategy,
    vectors: list[list[str]],
) -> _Inputs:
    """The least that has to be computed in each step: what was cached, as long as nothing below it changes.

    Args:
      settings: of the phase.
      module: the backbone.
      learning: names of the variables that learn.
      changed: names of those whose values are no longer the published ones that the cached values came from.
      strategy: of tf.distribute.
      vectors: files of FeatureVectorGen, train and eval.
    """
    whole = "photos through the whole backbone: "
    if settings["augmentation_mode"] == "online":
        return _Inputs("photos", whole + "they change anew in each epoch")
    if not settings["from_activations"]:
        return _Inputs("photos", whole + "training.fine_tuning.from_activations is off")
    if strategy.num_replicas_in_sync > 1:
        return _Inputs("photos", whole + "a backbone is not cut over several devices")
    if not learning and not changed:
        return _Inputs("vectors", "cached feature vectors: the whole backbone stays frozen")
    try:
        backbone_cut = cut(module, learning, settings["image_size"])
    except CannotCut as reason:
        return _Inputs("photos", f"{whole}{reason}")
    above = {v.name for v in backbone_cut.top_variables}
    if changed - above:
        return _Inputs("photos", f"{whole}the model it starts from changed variables below {backbone_cut.place}")
    example = next(iter(read_examples(vectors[0])))
    if f.BOUNDARY not in example.features.feature or text(example, f.BOUNDARY) != backbone_cut.boundary:
        return _Inputs("photos", f"{whole}no activations are cached for a boundary at {backbone_cut.place}")
    return _Inputs("activations", f"cached activations at {backbone_cut.place}", backbone_cut)


def _model_and_data(
    inputs: _Inputs,
    settings: dict[str, Any],
    labels: list[str],
    transform: Callable[[tf.Tensor], tf.Tensor],
    backbone: FeatureVector,
    head: tf_keras.Model,
    learning: list[str],
    vectors: list[list[str]],
    photos: list[list[str]],
    folder: str,
    eval_vectors: StoredRows,
) -> tuple[Classifier, TrainingData, TrainingData]:
    """The model from the inputs to logits, and both splits of what goes in."""
    train_data: TrainingData
    eval_data: TrainingData
    if inputs.kind == "photos":
        augmentation = Augmentation(**settings["augmentation"]) if settings["augmentation_mode"] != "none" else None
        train_data = read_photos(photos[0], transform, labels, augmentation)
        eval_data = read_photos(photos[1], transform, labels)
        start = tf_keras.Input([settings["image_size"], settings["image_size"], 3])
        end = backbone(start)
    elif inputs.cut is not None:
        train_data, eval_data = (read_rows(split, labels, f.ACTIVATIONS, folder, inputs.cut.shape) for split in vectors)
        start = tf_keras.Input(inputs.cut.shape)
        end = TopOfBackbone(inputs.cut, learning)(start)
    else:
        train_data, eval_data = read_rows(vectors[0], labels, f.FEATURE_VECTOR, folder), eval_vectors
        start = end = tf_keras.Input([eval_vectors.values.shape[1]])
    weights = class_weights(train_data.classes, len(labels)) if settings["class_weights"] == "balanced" else None
    return Classifier(start, head(end), class_weights=weights), train_data, eval_data
