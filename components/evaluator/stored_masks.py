"""What the Predictions component stored of a segmentation: confusions of pixels, and the answered masks.

| feature                   | dtype                     | value                                                        |
|---------------------------|---------------------------|--------------------------------------------------------------|
| `counted_pixels`          | int64                     | pixels at the model's size that the mask does not ignore     |
| `ignored_classes`         | bytes [...]               | names of the classes that are ignored; absent without any    |
| `<model>_confusion`       | int64 [classes * classes] | of these pixels: row the true class, column the answered one |
| `<model>_pixel_loss`      | float32                   | their mean natural-log loss                                  |
| `<model>_confidence_gaps` | float32 [15]              | their mean confidence minus the share that is right, by bin  |
| `<model>_mask`            | bytes                     | PNG of the answered ids, grey, at the model's size           |
| `<model>_own_confusion`   | int64 [classes * classes] | as `<model>_confusion`, at the photo's own size, of which    |
|                           |                           | the longer side counts as at most 1,024; in `test` only      |
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from scipy import stats
from tfx.types import Artifact

from components.evaluator import confusions, mask_evaluation
from components.evaluator.mean_iou import MeanIoU, mean_interval
from components.evaluator.metrics import LARGEST_LOSS
from components.evaluator.stored_predictions import CANDIDATES, PRODUCTION, photos_of
from components.model_selector.paired_comparison import SAME_WITHIN
from components.records import read_examples, split_files, text
from components.task.judging import IntervalSettings, ProductionScores, StoredAnswers
from schemas import features as f
from schemas.verdicts import LossComparison

COUNTED_PIXELS = "counted_pixels"
IGNORED_CLASSES = "ignored_classes"


def confusion_key(model: str) -> str:
    return f"{model}_confusion"


def own_confusion_key(model: str) -> str:
    return f"{model}_own_confusion"


def pixel_loss_key(model: str) -> str:
    return f"{model}_pixel_loss"


def confidence_gaps_key(model: str) -> str:
    return f"{model}_confidence_gaps"


def mask_key(model: str) -> str:
    return f"{model}_mask"


@dataclass(frozen=True)
class StoredMasks(StoredAnswers):
    """The stored answers of one split of a segmentation, see `components.task.judging.StoredAnswers`.

    Photos of which no pixel is counted at the model's size are left out: they say nothing.

    confusions: model -> int64 [photos, classes, classes]. pixel_losses: model -> float64 [photos]. confidence_gaps:
    model -> float64 [photos, 15]. ignored: classes whose pixels are not counted. own_confusions: as confusions, at the
    photos' own size; empty where they are not stored.
    """

    confusions: dict[str, np.ndarray]
    pixel_losses: dict[str, np.ndarray]
    confidence_gaps: dict[str, np.ndarray]
    ignored: tuple[str, ...] = ()
    own_confusions: dict[str, np.ndarray] = field(default_factory=dict)
    # What is served are ids, on which the probabilities have no bearing beyond the likeliest class.
    loss_decides = False

    @property
    def measure(self) -> MeanIoU:
        return MeanIoU(next(iter(self.confusions.values())).shape[-1], self.ignored)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.confusions)

    def scores(self, model: str) -> np.ndarray:
        return confusions.scaled(self.confusions[model])

    def constant_scores(self) -> tuple[int, np.ndarray]:
        truth = confusions.scaled(next(iter(self.confusions.values()))).sum(axis=2)
        classes = truth.shape[1]
        each = [np.zeros((len(truth), classes, classes)) for _ in range(classes)]
        for index in range(classes):
            each[index][:, :, index] = truth
        best = int(np.argmax([self.measure.value(scores) for scores in each]))
        return best, each[best]

    def production_scores(
        self, labels: Sequence[str], its_labels: Sequence[str], ours: StoredAnswers
    ) -> ProductionScores:
        """ProductionPredictions stores its confusions in the order of `labels`, of which it knows all."""
        return ProductionScores(self.scores(PRODUCTION), np.ones(len(self.keys), bool))

    def are_identical(self, candidate: str, baseline: str) -> bool:
        losses = self.pixel_losses[candidate], self.pixel_losses[baseline]
        same = np.array_equal(self.confusions[candidate], self.confusions[baseline])
        return same and bool(np.allclose(*losses, rtol=0, atol=SAME_WITHIN))

    def compare_losses(self, candidate: str, baseline: str, confidence: float) -> LossComparison:
        """By the paired t interval of the photos' mean pixel losses."""
        differences = self.pixel_losses[candidate] - self.pixel_losses[baseline]
        difference, photos = float(np.mean(differences)), len(differences)
        if photos < 2:
            low, high = -LARGEST_LOSS, LARGEST_LOSS  # one photo shows nothing
            return LossComparison(difference=difference, low=low, high=high, confidence=confidence)
        error = float(np.std(differences, ddof=1) / np.sqrt(photos))
        half = float(stats.t.ppf((1 + confidence) / 2, photos - 1)) * error
        return LossComparison(
            difference=difference, low=difference - half, high=difference + half, confidence=confidence
        )

    def evaluate(
        self, model: str, labels: Sequence[str], settings: IntervalSettings, abstain_below: float = 0.0
    ) -> dict[str, Any]:
        return mask_evaluation.evaluate(
            self.confusions[model],
            self.pixel_losses[model],
            self.confidence_gaps[model],
            labels,
            settings,
            self.own_confusions.get(model),
        )

    def describe_slice(self, model: str, rows: np.ndarray, confidence: float) -> dict[str, Any]:
        mean_iou = self.measure.interval(self.scores(model)[rows], confidence)
        accuracy = mean_interval(confusions.pixel_accuracy(self.confusions[model][rows]), confidence, 1.0)
        return {"accuracy": asdict(accuracy), "mean_iou": asdict(mean_iou) if mean_iou else None}


def are_masks(rows: Sequence[tf.train.Example]) -> bool:
    """Whether these stored answers are of a segmentation."""
    return bool(rows) and COUNTED_PIXELS in rows[0].features.feature


def without_pictures(example: tf.train.Example) -> tf.train.Example:
    """The example without the answered masks, which take the most of its memory; changed in place."""
    for model in (*CANDIDATES, PRODUCTION):
        example.features.feature.pop(mask_key(model), None)
    return example


def of_examples(rows: Sequence[tf.train.Example]) -> StoredMasks:
    """The stored answers of examples, each photo once."""
    rows = [row for row in rows if row.features.feature[COUNTED_PIXELS].int64_list.value[0] > 0]
    models = [
        model for model in (*CANDIDATES, PRODUCTION) if all(confusion_key(model) in e.features.feature for e in rows)
    ]

    def numbers(key: str) -> np.ndarray:
        return np.array([e.features.feature[key].float_list.value for e in rows], np.float64)

    def matrices(key: str) -> np.ndarray:
        flat = np.array([e.features.feature[key].int64_list.value for e in rows], np.int64)
        classes = round(np.sqrt(flat.shape[1]))
        return flat.reshape(-1, classes, classes)

    return StoredMasks(
        **photos_of(rows),
        confusions={model: matrices(confusion_key(model)) for model in models if rows},
        pixel_losses={model: numbers(pixel_loss_key(model))[:, 0] for model in models if rows},
        confidence_gaps={model: numbers(confidence_gaps_key(model)) for model in models if rows},
        ignored=_ignored(rows[0]) if rows else (),
        own_confusions={
            model: matrices(own_confusion_key(model))
            for model in models
            if rows and all(own_confusion_key(model) in e.features.feature for e in rows)
        },
    )


def _ignored(row: tf.train.Example) -> tuple[str, ...]:
    feature = row.features.feature
    stored = feature[IGNORED_CLASSES].bytes_list.value if IGNORED_CLASSES in feature else []
    return tuple(name.decode("utf-8", "replace") for name in stored)


def read_mask_ids(
    predictions: Artifact, split: str, models: Iterable[str], content_hashes: Collection[str]
) -> dict[str, dict[str, np.ndarray]]:
    """The answered masks of a few photos.

    Args:
      predictions: of Predictions or ProductionPredictions.
      content_hashes: of the photos; those that are not found are left out.

    Returns:
      content hash -> model -> ids, uint8 [size, size].
    """
    models = list(models)
    found: dict[str, dict[str, np.ndarray]] = {}
    for example in read_examples(split_files(predictions, split)):
        key = text(example, f.CONTENT_HASH)
        if key in content_hashes and key not in found:
            feature = example.features.feature
            found[key] = {
                model: png_ids(feature[mask_key(model)].bytes_list.value[0])
                for model in models
                if mask_key(model) in feature
            }
    return found


def png_ids(png: bytes) -> np.ndarray:
    """The ids of a mask's PNG, uint8 [height, width]."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.array(image)


def ids_png(ids: np.ndarray) -> bytes:
    """A grey PNG of ids, uint8 [height, width]."""
    buffer = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8), "L").save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()
