"""The DriftGate component."""

from collections.abc import Sequence
from typing import List  # noqa: UP035  (TFX reads this very type)

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import Artifact, artifact_utils, standard_artifacts

from components.artifacts import Verdict
from components.drift_gate import ACTION_PROPERTY, THRESHOLDS_PROPERTY, VECTORS_PROPERTY
from components.drift_gate.drift import Photos, judge, stop_if_told
from components.drift_gate.settings import DriftSettings
from components.records import read_records, split_files
from components.verdict import write_verdict
from schemas import features as f
from schemas.errors import BadInput

_READ_BATCH = 256
_TEXTS = (f.LABEL, f.IMAGE_FORMAT, f.FILE_NAME, f.CONTENT_HASH)


@component
def DriftGate(
    feature_vectors: InputArtifact[standard_artifacts.Examples],
    verdict: OutputArtifact[Verdict],
    thresholds: Parameter[dict[str, dict[str, float]]],
    false_alarms: Parameter[float],
    far_quantile: Parameter[float],
    listed_photos: Parameter[int],
    seed: Parameter[int],
    code: Parameter[str],
    earlier_vectors: InputArtifact[List[standard_artifacts.Examples]] = None,  # noqa: UP006
    stops: Parameter[int] = 1,
):
    """Compares the photos of the new span with those of the earlier ones, and stops the run if they drifted too far.

    Args:
      feature_vectors: of the new span, from FeatureVectorGen; all splits are compared together.
      verdict: the numbers, one sentence, and the photos far from everything seen before (`drift.judge`). It can be
        found again by its properties `action`, `vectors` (the address of the new span's vectors) and `thresholds`
        (`drift` of the configuration as JSON).
      thresholds: check -> `note` and `stop`, from `drift` in the configuration, without those that are None.
      earlier_vectors: of the window's earlier spans, from the same backbone. The new span is ignored if it is among
        them. None or an empty list means that there is nothing to compare with.
      stops: with 1 the action `stop` ends the run here, and TFX removes the verdict with all outputs of the failed
        step. With 0 the verdict is kept, and its reader stops the run (`stop_if_told`).

    Raises:
      BadInput: a check stops the run, or the vectors differ in width.
    """
    del code
    settings = DriftSettings(
        **thresholds, false_alarms=false_alarms, far_quantile=far_quantile, listed_photos=listed_photos
    )
    new = read_photos([feature_vectors])
    earlier = read_photos([each for each in earlier_vectors or [] if each.uri != feature_vectors.uri])
    if len(new) and len(earlier) and new.vectors.shape[1] != earlier.vectors.shape[1]:
        raise _widths(new.vectors.shape[1], earlier.vectors.shape[1])
    found = judge(new, earlier, settings, seed)
    write_verdict(verdict.uri, found)
    properties = {ACTION_PROPERTY: found.action, VECTORS_PROPERTY: feature_vectors.uri}
    for name, value in (properties | {THRESHOLDS_PROPERTY: settings.model_dump_json()}).items():
        verdict.set_string_custom_property(name, value)
    if stops:
        stop_if_told(found)


def read_photos(artifacts: Sequence[Artifact]) -> Photos:
    """Reads the properties to compare from FeatureVectorGen's artifacts.

    Raises:
      BadInput: the vectors differ in width.
    """
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in _TEXTS}
    spec |= {name: tf.io.FixedLenFeature([], tf.int64) for name in (f.WIDTH, f.HEIGHT, f.VIEW)}
    spec[f.BRIGHTNESS] = tf.io.FixedLenFeature([], tf.float32, float("nan"))  # of older spans
    spec[f.FEATURE_VECTOR] = tf.io.FixedLenSequenceFeature([], tf.float32, True)
    files = [
        file
        for each in artifacts
        for split in artifact_utils.decode_split_names(each.split_names)
        for file in split_files(each, split)
    ]
    texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in (f.WIDTH, f.HEIGHT, f.BRIGHTNESS, f.FEATURE_VECTOR)}
    for file in files:
        batches = read_records([file]).batch(_READ_BATCH).map(lambda records: tf.io.parse_example(records, spec))
        for batch in batches.prefetch(1).as_numpy_iterator():
            photos = batch[f.VIEW] == 0
            for name in _TEXTS:
                texts[name] += [value.decode("utf-8", "replace") for value in batch[name][photos]]
            for name, parts in numbers.items():
                parts.append(batch[name][photos])
    widths = sorted({part.shape[1] for part in numbers[f.FEATURE_VECTOR]})
    if len(widths) > 1:
        raise _widths(*widths[-2:])
    joined = {name: np.concatenate(parts) if parts else np.zeros([0]) for name, parts in numbers.items()}
    return Photos(
        labels=texts[f.LABEL],
        formats=texts[f.IMAGE_FORMAT],
        sides=np.sqrt(joined[f.WIDTH].astype(np.float64) * joined[f.HEIGHT]),
        brightness=joined[f.BRIGHTNESS],
        vectors=joined[f.FEATURE_VECTOR],
        file_names=texts[f.FILE_NAME],
        hashes=texts[f.CONTENT_HASH],
    )


def _widths(one: int, other: int) -> BadInput:
    return BadInput(
        f"the feature vectors of the window have {one} values in one span and {other} in another; expected one "
        "backbone for all spans, so pass the earlier spans through it too"
    )
