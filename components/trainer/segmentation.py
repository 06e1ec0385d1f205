"""A class for each pixel: a decoder on the backbone's tensors at several resolutions (`components.task.training`)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from components.backbone import frozen_pass
from components.backbone.flat_graph import CannotCut
from components.backbone.layer import Encoder, FoldedEncoder, TopOfEncoder
from components.backbone.pyramid import Pyramid, build_pyramid, taps_of, usable_pyramid, with_a_part
from components.legacy_keras import tf_keras
from components.task.training import ACTIVATIONS, PHOTOS, Inputs
from components.trainer import segmentation_model
from components.trainer.decoder import TapShape, build_decoder
from components.trainer.mask_data import has_taps, read_mask_photos, read_taps
from components.trainer.optimization import loss_weights
from components.trainer.phase import Phase, TrainedPhase
from components.trainer.segmenter import Segmenter
from components.trainer.settings import FineTuningSettings
from components.trainer.training_data import TrainingData
from components.transform.augmentation import Augmentation
from schemas import schema_files


class Segmentation:
    """The task of giving each pixel of a photo its class."""

    one_device = True  # the backbone is taken apart even where photos are read

    def classes(self, schema: schema_pb2.Schema) -> list[str]:
        return schema_files.mask_classes(schema)

    def frozen_inputs(self, phase: Phase, module: Any) -> Inputs:
        settings = phase.settings
        pyramid = usable_pyramid(module, settings.backbone, settings.image_size, settings.decoder.strides)
        through = "photos through the frozen backbone: "
        if settings.augmentation_mode == "online":
            return Inputs(PHOTOS, through + "they are augmented anew in every epoch", pyramid)
        if not has_taps(phase.vectors.train, pyramid.cached):
            return Inputs(PHOTOS, through + "no taps are cached (training.decoder.cache_gigabytes)", pyramid)
        return Inputs(ACTIVATIONS, f"cached taps of strides {_words(pyramid)}", pyramid)

    def learning_inputs(
        self, phase: Phase[FineTuningSettings], module: Any, learning: Sequence[str], changed: Set[str]
    ) -> Inputs:
        settings, whole = phase.settings, "photos through the whole backbone: "
        size, strides = settings.image_size, settings.decoder.strides

        def of_photos(why: str) -> Inputs:
            return Inputs(PHOTOS, f"{whole}{why}", build_pyramid(module, [], size, strides))

        if settings.augmentation_mode == "online":
            return of_photos("they are augmented anew in every epoch")
        if not settings.from_activations:
            return of_photos("training.fine_tuning.from_activations is off")
        try:
            pyramid = build_pyramid(module, learning, size, strides)
        except CannotCut as reason:
            return of_photos(str(reason))
        if changed - {v.name for v in pyramid.top_variables}:
            return of_photos("the model it starts from changed variables below the cached taps")
        if not has_taps(phase.vectors.train, pyramid.cached):
            return of_photos("no taps are cached for it")
        return Inputs(ACTIVATIONS, f"cached taps below what learns, of strides {_words(pyramid)}", pyramid)

    def recipe(self, phase: Phase[FineTuningSettings], own_source: Any) -> tuple[FineTuningSettings, str]:
        settings = phase.settings
        if settings.strategy != "auto":
            return settings, ""
        return settings.replaced(strategy="top"), "top: the rule behind auto is about classes of photos"

    def learning(self, phase: Phase, module: Any, names: Sequence[str]) -> list[str]:
        settings = phase.settings
        return with_a_part(module, names, settings.image_size, settings.decoder.strides)

    def new_head(self, phase: Phase, module: Any) -> tf_keras.Model:
        settings, decoder = phase.settings, phase.settings.decoder
        taps = taps_of(module, settings.backbone, settings.image_size, decoder.strides)
        shapes = [TapShape(tap.stride, tap.shape) for tap in taps]
        return build_decoder(shapes, decoder.widths, len(phase.labels), settings.image_size, settings.seed)

    def backbone(self, phase: Phase, module: Any, inputs: Inputs, learning: Sequence[str]) -> Encoder:
        return Encoder(module, _pyramid(inputs), learning)

    def ends(self, phase: Phase, inputs: Inputs, backbone: Encoder, learning: Sequence[str]) -> tuple[Any, Any]:
        size, pyramid = phase.settings.image_size, _pyramid(inputs)
        if inputs.kind == PHOTOS:
            start = tf_keras.Input([size, size, 3])
            if learning:
                return start, backbone(start)
            run = frozen_pass.build(backbone.resolved_object, size, pyramid)
            return start, FoldedEncoder(run, pyramid)(start)
        cached = [tf_keras.Input(shape) for shape in pyramid.shapes]
        return cached, TopOfEncoder(pyramid, learning)(cached)

    def data(self, phase: Phase, inputs: Inputs) -> tuple[TrainingData, TrainingData]:
        settings, size = phase.settings, phase.settings.image_size
        if inputs.kind == PHOTOS:
            changes = {"none": None, "mirror": Augmentation(flip=True)}
            augmentation = changes.get(settings.augmentation_mode, settings.augmentation)
            return (
                read_mask_photos(phase.photos.train, phase.transform, size, augmentation),
                read_mask_photos(phase.photos.eval, phase.transform, size),
            )
        names, shapes = _pyramid(inputs).cached, _pyramid(inputs).shapes
        train, evaluation = (read_taps(files, names, shapes, size, phase.folder) for files in phase.vectors)
        return train, evaluation

    def model(self, phase: Phase, start: Any, logits: tf.Tensor, train_data: TrainingData | None) -> Segmenter:
        count = len(phase.labels)
        weights = None
        if train_data is not None and phase.settings.class_weights == "balanced":
            by_class = loss_weights(phase.settings, train_data.classes, count) or {}
            weights = [by_class[i] for i in range(count)]
        return Segmenter(start, logits, classes=count, dice=phase.settings.decoder.dice, pixel_weights=weights)

    def to_calibrate(
        self, phase: Phase, inputs: Inputs, model: Any, head: tf_keras.Model, eval_data: TrainingData
    ) -> tuple[Any, TrainingData]:
        return model, eval_data

    def export(self, folder: str, phase: Phase, trained: TrainedPhase, temperature: float) -> None:
        segmentation_model.export(
            folder,
            phase.transform,
            trained.backbone,
            trained.head,
            phase.labels,
            temperature,
            phase.settings.photo_rules,
        )


def _pyramid(inputs: Inputs) -> Pyramid:
    assert isinstance(inputs.parts, Pyramid)
    return inputs.parts


def _words(pyramid: Pyramid) -> str:
    return ", ".join(str(stride) for stride in pyramid.strides)
