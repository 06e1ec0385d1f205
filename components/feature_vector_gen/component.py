"""The FeatureVectorGen component."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from absl import logging
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts

from components import progress
from components.backbone import feature_vector, freezing, frozen_pass, kept_pass
from components.backbone.cut import CannotCut, cut
from components.backbone.unfreezing import Unfreezing
from components.beam_records import read_splits, write_splits
from components.feature_vector_gen import PASS_FILE, PHOTOS_PROPERTY
from components.feature_vector_gen.store import VectorStore
from components.records import text
from components.transform.augmentation import Augmentation, augment, seeds_for
from components.transform.graph import load_transform
from schemas import features as f
from schemas.errors import BadInput

# Larger batches are no faster and take far more memory.
_BATCH = 32
_COMPUTED, _REUSED, _DROPPED = "computed", "reused", "dropped_as_damaged"


@dataclass(frozen=True)
class _Pass:
    """The frozen backbone, ready to run. `cut_note` says where it is cut, or why it is not."""

    run: frozen_pass.FrozenPass
    boundary: str  # empty: it is not cut
    shape: tuple[int, ...]  # of one photo's activations there
    cut_note: str
    width: int


@functools.lru_cache(maxsize=1)
def _load_pass(module_path: str, image_size: int, unfreezing: Unfreezing | None, key: str = "") -> _Pass:
    """Loads and checks a backbone, once per process, although Beam asks for it several times.

    Args:
      module_path: folder of the SavedModel.
      image_size: side of the images, pixels.
      unfreezing: of the strategy `top`; None: no cut.
      key: of everything that the pass follows from; it is kept under it. Empty: it is not kept.
    """
    if key and (kept := kept_pass.read(key, image_size)):
        run, facts = kept
        return _Pass(run, facts["boundary"], tuple(facts["shape"]), facts["cut_note"], facts["width"])
    module = feature_vector.load(module_path, image_size)
    backbone_cut, note = None, "no activations are kept"
    if unfreezing is not None:
        every = [v.name for v in module.variables]
        learning = freezing.learning_variables(
            [v.name for v in module.trainable_variables], every, "top", **unfreezing.model_dump()
        )
        try:
            backbone_cut = cut(module, learning, image_size)
            note = f"cut at {backbone_cut.place}, {'x'.join(map(str, backbone_cut.shape))} values per photo"
        except CannotCut as reason:
            note = f"no activations are kept: {reason}"
    run = frozen_pass.build(module, image_size, backbone_cut)
    vectors, _ = run.call(tf.zeros([1, image_size, image_size, 3]))
    boundary, shape = (backbone_cut.boundary, backbone_cut.shape) if backbone_cut else ("", ())
    found = _Pass(run, boundary, shape, note, vectors.shape[1])
    if key:
        kept_pass.write(key, run, {name: value for name, value in vars(found).items() if name != "run"})
    return found


def _precision(split: str) -> type[np.floating]:
    """The precision of activations: float16 suffices for training, but evaluation uses the precision of serving."""
    return np.float16 if split == "train" else np.float32


@dataclass(frozen=True)
class _Views:
    """The augmented copies of each training photo: their number, their changes, and the seed of the run."""

    count: int
    seed: int
    changes: Augmentation

    @classmethod
    def of(cls, views: int, seed: int, **changes: Any) -> "_Views":
        return cls(views, seed, Augmentation(**changes))

    @property
    def address(self) -> str:
        """Identifies the look of the copies, independent of their number."""
        decides = json.dumps({**asdict(self.changes), "seed": self.seed}, sort_keys=True)
        return hashlib.sha256(decides.encode()).hexdigest()[:12]


class _Vectors(beam.DoFn):
    """Batch of (split, serialised example with photo) -> serialised examples with vectors, tagged with the split."""

    def __init__(
        self,
        transform_graph_uri: str,
        backbone: tuple[str, int, Unfreezing | None, str],
        views: _Views | None,
        store: str,
    ):
        self._transform_graph_uri, self._backbone = transform_graph_uri, backbone
        self._views, self._store_folder = views, store

    def setup(self):
        transform = load_transform(self._transform_graph_uri)
        self._images = tf.function(transform, input_signature=[tf.TensorSpec([None], tf.string)])
        self._pass = _load_pass(*self._backbone)
        self._store = VectorStore(self._store_folder) if self._store_folder else None
        self._store_of_views = None
        if views := self._views:
            self._augment = tf.function(
                lambda images, seeds: augment(images, seeds, views.changes), reduce_retracing=True
            )
            if self._store_folder:
                # A store of their own: the photos themselves stay known when the augmentation changes.
                self._store_of_views = VectorStore(f"{self._store_folder}-views-{views.address}")
        self._counter = progress.Counter("photos through the backbone")
        self._computed = beam.metrics.Metrics.counter("vectors", _COMPUTED)
        self._reused = beam.metrics.Metrics.counter("vectors", _REUSED)
        self._dropped = beam.metrics.Metrics.counter("vectors", _DROPPED)

    def process(self, batch: list[tuple[str, bytes]]) -> Iterable[beam.pvalue.TaggedOutput]:
        examples = [tf.train.Example.FromString(record) for _, record in batch]
        photos = [example.features.feature[f.IMAGE].bytes_list.value[0] for example in examples]
        hashes = [text(example, f.CONTENT_HASH) for example in examples]
        splits = [split for split, _ in batch]
        for example in examples:
            del example.features.feature[f.IMAGE]
        # The views of a photo share its decoding.
        images = functools.cache(lambda rows: self._images(tf.constant([photos[i] for i in rows])))
        for view in range((self._views.count if self._views else 0) + 1):
            rows = [i for i, split in enumerate(splits) if view == 0 or split == "train"]
            for i, value in zip(rows, self._values(images, hashes, splits, rows, view), strict=True):
                yield beam.pvalue.TaggedOutput(splits[i], self._record(examples[i], view, value))
        self._counter.add(len(batch))

    def _values(
        self,
        decoded: Callable[[tuple[int, ...]], tf.Tensor],
        hashes: list[str],
        splits: list[str],
        rows: list[int],
        view: int,
    ) -> list[bytes]:
        """Of each row: the bytes of the vector and the brightness, float32, and those of the activations."""
        store = self._store_of_views if view else self._store
        before = store.dropped if store else 0
        values = {i: found for i in rows if store and (found := store.get(hashes[i], view, self._size(splits[i])))}
        if store and store.dropped > before:
            self._dropped.inc(store.dropped - before)
        missing = [i for i in rows if i not in values]
        self._reused.inc(len(values))
        self._computed.inc(len(missing))
        if missing:
            images = decoded(tuple(missing))
            if self._views and view:
                seeds = seeds_for(tf.constant([hashes[i] for i in missing]), view, self._views.seed)
                images = self._augment(images, seeds)
            vectors, activations = self._pass.run.call(images)
            kept = self._kept(activations, [splits[i] for i in missing])
            brightness = tf.reduce_mean(images, axis=[1, 2, 3])
            numbers = np.column_stack([vectors.numpy(), brightness.numpy()])
            for i, own, rest in zip(missing, numbers, kept, strict=True):
                values[i] = own.tobytes() + rest
                if store:
                    store.put(hashes[i], view, values[i])
        return [values[i] for i in rows]

    def _kept(self, activations: tf.Tensor | None, splits: list[str]) -> list[bytes]:
        """The activations of each photo as they are kept; empty without a cut."""
        if activations is None:
            return [b""] * len(splits)
        halves = tf.cast(activations, tf.float16).numpy()
        if not np.isfinite(halves).all():
            raise BadInput(
                "the activations at the freeze boundary exceed float16's range (65504); set "
                "training.fine_tuning.from_activations=false"
            )
        kept = {np.float16: halves, np.float32: activations.numpy()}
        return [kept[_precision(split)][i].tobytes() for i, split in enumerate(splits)]

    def _size(self, split: str) -> int:
        """Bytes of an entry."""
        values = int(np.prod(self._pass.shape)) if self._pass.boundary else 0
        return 4 * (self._pass.width + 1) + np.dtype(_precision(split)).itemsize * values

    def _record(self, example: tf.train.Example, view: int, value: bytes) -> bytes:
        number_bytes = 4 * (self._pass.width + 1)
        numbers = np.frombuffer(value[:number_bytes], np.float32)
        example = tf.train.Example.FromString(example.SerializeToString())
        feature = example.features.feature
        feature[f.FEATURE_VECTOR].float_list.value.extend(numbers[:-1])
        feature[f.BRIGHTNESS].float_list.value.append(numbers[-1])
        feature[f.VIEW].int64_list.value.append(view)
        if self._pass.boundary:
            feature[f.ACTIVATIONS].bytes_list.value.append(value[number_bytes:])
            feature[f.BOUNDARY].bytes_list.value.append(self._pass.boundary.encode())
        return example.SerializeToString(deterministic=True)


@component(use_beam=True)
def FeatureVectorGen(
    examples: InputArtifact[standard_artifacts.Examples],
    transform_graph: InputArtifact[standard_artifacts.TransformGraph],
    schema: InputArtifact[standard_artifacts.Schema],
    feature_vectors: OutputArtifact[standard_artifacts.Examples],
    backbone: Parameter[str],
    backbone_fingerprint: Parameter[str],
    image_size: Parameter[int],
    transform_fingerprint: Parameter[str],
    store: Parameter[str],
    code: Parameter[str],
    unfreeze: Parameter[dict[str, Any]] = None,
    augmentation: Parameter[dict[str, Any]] = None,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Runs the frozen backbone over every split once; vectors of photos seen before are looked up.

    Args:
      examples: photos, from ImageExampleGen.
      transform_graph: decodes, resizes and rescales them.
      schema: from DataGate; it is not read, but makes this step wait for the gate.
      feature_vectors: the same examples without `image` and with `feature_vector`, float32 [width], `brightness` and
        `view`. If the backbone can be cut, also with `boundary` and `activations`, the bytes of float16 values in the
        split train and of float32 values in the others. `pass.json` next to the splits describes the pass.
      backbone: handle of an image feature vector (`components.backbone.registry`).
      backbone_fingerprint: of the backbone's content; part of the cache key.
      image_size: side of the images that Transform makes, pixels.
      transform_fingerprint: of Transform's code and settings; part of the address of a stored vector.
      store: folder of vectors by content hash; empty to compute every vector.
      code: fingerprint of the code this step runs; part of the cache key and of the address of a stored vector.
      unfreeze: `Unfreezing` without None values; None to keep no activations.
      augmentation: fields of `Augmentation`, `views` and `seed`; None for no augmented views.
      beam_pipeline: given by TFX.

    Raises:
      BadInput: the backbone cannot be loaded, is not an image feature vector, or lacks the variables or blocks.
    """
    del schema
    module_path = str(feature_vector.resolve(backbone))
    unfreezing = None if unfreeze is None else Unfreezing(**unfreeze)
    views = None if augmentation is None else _Views.of(**augmentation)
    key = hashlib.sha256(json.dumps([backbone_fingerprint, image_size, unfreeze, code]).encode()).hexdigest()
    loaded = _load_pass(module_path, image_size, unfreezing, key)
    if store:
        decides = [backbone_fingerprint, transform_fingerprint, image_size, loaded.boundary, loaded.run.folded, code]
        address = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
        store = os.path.join(store, Path(module_path).name + "-" + address[:12])
    splits = artifact_utils.decode_split_names(examples.split_names)
    with beam_pipeline as pipeline:
        vectors = (
            read_splits(pipeline, examples, splits)
            | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
            | "Vectors"
            >> beam.ParDo(
                _Vectors(transform_graph.uri, (module_path, image_size, unfreezing, key), views, store)
            ).with_outputs(*splits)
        )
        write_splits(vectors, feature_vectors, splits)
    _load_pass.cache_clear()  # the steps that follow in this process need the memory
    counts = {c.key.metric.name: c.committed for c in pipeline.result.metrics().query()["counters"]}
    note: dict[str, Any] = {
        "frozen_pass": loaded.run.note,
        "cut": loaded.cut_note,
        _COMPUTED: counts.get(_COMPUTED, 0),
        _REUSED: counts.get(_REUSED, 0),
    }
    if dropped := counts.get(_DROPPED, 0):
        note[_DROPPED] = dropped
        logging.warning("%d stored vectors were damaged and have been computed again", dropped)
    feature_vectors.set_string_custom_property(PHOTOS_PROPERTY, examples.uri)
    with fileio.open(os.path.join(feature_vectors.uri, PASS_FILE), "w") as file:
        file.write(json.dumps(note, indent=2))
