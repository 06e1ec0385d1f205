"""The FeatureVectorGen component."""

import functools
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from components.backbone.cut import Cut, cut
from components.backbone.flat_graph import CannotCut
from components.backbone.pyramid import Pyramid, usable_pyramid
from components.backbone.unfreezing import Unfreezing
from components.beam_records import read_splits, remove_leftovers, write_splits
from components.feature_vector_gen import PASS_FILE, PHOTOS_PROPERTY
from components.feature_vector_gen.kept import Kept, KeptActivations, KeptTaps, NothingKept
from components.feature_vector_gen.store import VectorStore
from components.feature_vector_gen.views import Views
from components.feature_vector_gen.worker_backbone import WorkerBackbone
from components.records import count_records, split_files, text
from components.shared_folder import require_shared
from components.transform.graph import load_transform
from components.transform.mask_ops import masks_to_ids
from schemas import features as f

# Bytes of a photo's activations in float16. With more, 25,000 photos would take over 3 GB.
_LARGEST_ACTIVATIONS = 128 * 1024
# Larger batches are no faster and take far more memory.
_BATCH = 32
_COMPUTED, _REUSED, _DROPPED = "computed", "reused", "dropped_as_damaged"


@dataclass(frozen=True)
class _Pass:
    """The frozen backbone, ready to run. `cut_note` says what is kept beside the vectors, or why nothing is."""

    run: frozen_pass.FrozenPass
    kept: Kept
    cut_note: str
    width: int


# A worker of a distributed runner sets up several threads at once, and each asks for the same backbone.
_loading = threading.Lock()


@functools.lru_cache(maxsize=1)
def _load_pass(
    module_path: str,
    image_size: int,
    unfreezing: Unfreezing | None,
    strides: tuple[int, ...] | None = None,
    instead: Unfreezing | None = None,
    key: str = "",
) -> _Pass:
    """Loads and checks a backbone, once per process, although Beam asks for it several times.

    Args:
      module_path: folder of the SavedModel.
      image_size: side of the images, pixels.
      unfreezing: of the strategy `top`; None: nothing is kept for fine-tuning.
      strides: of the taps to keep for a decoder; None: there is no decoder, and activations at the freeze boundary are
        kept instead; empty: there is one, but nothing is kept.
      instead: the same as `unfreezing`, for a cut higher up if there is none by that, or its activations are too large.
      key: of everything that the pass follows from, under which it is found next time; empty: it is not.
    """
    kept: Kept
    if key and strides is None and (found := kept_pass.read(key, image_size)):
        run, facts = found
        kept = KeptActivations(facts["boundary"], tuple(facts["shape"])) if facts["boundary"] else NothingKept()
        return _Pass(run, kept, facts["cut_note"], facts["width"])
    module = feature_vector.load(module_path, image_size)
    learning = _learning(module, unfreezing)
    parts: Cut | Pyramid | None = None
    kept = NothingKept()
    note = "no activations are kept"
    if strides:
        parts = usable_pyramid(module, module_path, image_size, strides, later_learning=learning)
        kept = KeptTaps(parts)
        cells = ", ".join(f"{tap.stride} px: {'x'.join(map(str, tap.narrow_shape))}" for tap in parts.taps)
        note = f"taps of strides {cells}; {kept.size('train') / 1000:.0f} kB per photo"
    elif strides is None:
        parts, note = _first_cut(module, image_size, filter(None, (learning, _learning(module, instead))))
        kept = KeptActivations(parts.boundary, parts.shape) if parts else kept
    run = frozen_pass.build(module, image_size, parts)
    vectors, _ = run.call(tf.zeros([1, image_size, image_size, 3]))
    width = vectors.shape[1]
    if key and strides is None:
        boundary, shape = (parts.boundary, parts.shape) if isinstance(parts, Cut) else ("", ())
        kept_pass.write(key, run, {"boundary": boundary, "shape": shape, "cut_note": note, "width": width})
    return _Pass(run, kept, note, width)


def _learning(module: Any, unfreezing: Unfreezing | None) -> list[str]:
    """Names of the variables that the strategy `top` unfreezes; none without `unfreezing`."""
    if unfreezing is None:
        return []
    every = [v.name for v in module.variables]
    trainable = [v.name for v in module.trainable_variables]
    return freezing.learning_variables(trainable, every, "top", **unfreezing.model_dump())


def _first_cut(module: Any, image_size: int, choices: Iterable[list[str]]) -> tuple[Cut | None, str]:
    """The cut below the first of `choices` whose activations are not too large, or else the last, and a note."""
    found, note = None, "no activations are kept"
    for learning in choices:
        try:
            found = cut(module, learning, image_size)
        except CannotCut as reason:
            note = note if found else f"no activations are kept: {reason}"
            continue
        note = f"cut at {found.place}, {'x'.join(map(str, found.shape))} values per photo"
        if 2 * np.prod(found.shape) <= _LARGEST_ACTIVATIONS:
            break
    return found, note


class _Vectors(beam.DoFn):
    """Batch of (split, serialised example with photo) -> serialised examples with vectors, tagged with the split."""

    def __init__(
        self,
        transform_graph_uri: str,
        backbone: WorkerBackbone,
        wanted: tuple[Any, ...],
        views: Views | None,
        store: str,
        mask_size: int = 0,
    ):
        """
        Args:
          transform_graph_uri: of TFX Transform.
          backbone: the backbone, and
          wanted: the further arguments of `_load_pass`.
          views: of training photos; None: the photos alone.
          store: folder; empty: every vector is computed.
          mask_size: side of the masks to keep, pixels; 0: there are no masks.
        """
        self._transform_graph_uri, self._backbone, self._wanted = transform_graph_uri, backbone, wanted
        self._views, self._store_folder, self._mask_size = views, store, mask_size

    def setup(self):
        for folder in (self._transform_graph_uri, self._store_folder):
            if folder:
                require_shared(folder)
        transform = load_transform(self._transform_graph_uri)
        self._images = tf.function(transform, input_signature=[tf.TensorSpec([None], tf.string)])
        with _loading:
            self._pass = _load_pass(self._backbone.found_here(), *self._wanted)
        self._store = VectorStore(self._store_folder) if self._store_folder else None
        self._store_of_views = None
        if self._views and self._store_folder:
            # A store of their own: the photos themselves stay known when the augmentation changes.
            self._store_of_views = VectorStore(f"{self._store_folder}-views-{self._views.address}")
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
        masks = self._masks(examples)
        # The views of a photo share its decoding.
        images = functools.cache(lambda rows: self._images(tf.constant([photos[i] for i in rows])))
        for view in range((self._views.count if self._views else 0) + 1):
            rows = [i for i, split in enumerate(splits) if view == 0 or split == "train"]
            values = self._values(images, hashes, splits, rows, view)
            moved = self._moved(masks, hashes, rows, view)
            for i, value, mask in zip(rows, values, moved, strict=True):
                yield beam.pvalue.TaggedOutput(splits[i], self._record(examples[i], view, value, mask))
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
            if self._views:
                images = self._views.of_images(images, [hashes[i] for i in missing], view)
            vectors, activations = self._pass.run.call(images)
            kept = self._pass.kept.values(activations, [splits[i] for i in missing])
            brightness = tf.reduce_mean(images, axis=[1, 2, 3])
            numbers = np.column_stack([vectors.numpy(), brightness.numpy()])
            for i, own, rest in zip(missing, numbers, kept, strict=True):
                values[i] = own.tobytes() + rest
                if store:
                    store.put(hashes[i], view, values[i])
        return [values[i] for i in rows]

    def _size(self, split: str) -> int:
        """Bytes of an entry."""
        return 4 * (self._pass.width + 1) + self._pass.kept.size(split)

    def _masks(self, examples: list[tf.train.Example]) -> tf.Tensor | None:
        """The masks at the model's size, uint8 [batch, size, size]; they are taken out of the examples."""
        if not self._mask_size:
            return None
        pngs = [example.features.feature.pop(f.MASK).bytes_list.value[0] for example in examples]
        return masks_to_ids(tf.constant(pngs), self._mask_size)

    def _moved(self, masks: tf.Tensor | None, hashes: list[str], rows: list[int], view: int) -> list[bytes]:
        """The bytes of each row's mask, moved as its view is; empty without masks."""
        if masks is None or not rows:
            return [b""] * len(rows)
        ids = tf.gather(masks, rows)
        if self._views:
            ids = self._views.of_masks(ids, [hashes[i] for i in rows], view)
        return [mask.tobytes() for mask in ids.numpy()]

    def _record(self, example: tf.train.Example, view: int, value: bytes, mask: bytes) -> bytes:
        number_bytes = 4 * (self._pass.width + 1)
        numbers = np.frombuffer(value[:number_bytes], np.float32)
        example = tf.train.Example.FromString(example.SerializeToString())
        feature = example.features.feature
        feature[f.FEATURE_VECTOR].float_list.value.extend(numbers[:-1])
        feature[f.BRIGHTNESS].float_list.value.append(numbers[-1])
        feature[f.VIEW].int64_list.value.append(view)
        self._pass.kept.add(example, value[number_bytes:])
        if mask:
            feature[f.MASK_IDS].bytes_list.value.append(mask)
        return example.SerializeToString(deterministic=True)


def _counts(result: beam.runners.runner.PipelineResult) -> Counter[str]:
    """Name of a counter -> its value over all steps; Flink's job server reports attempted counts only."""
    counts: Counter[str] = Counter()
    for counter in result.metrics().query()["counters"]:
        counts[counter.key.metric.name] += counter.result or 0
    return counts


def _affordable(
    strides: tuple[int, ...], budget: float, wanted: tuple[Any, ...], examples: Any, views: Views | None, stored: bool
) -> tuple[tuple[int, ...], str]:
    """The strides of the taps to keep, none if they would take too much space; and the end of a sentence on the space.

    The space is told before anything is computed.

    Args:
      strides, budget: see `FeatureVectorGen`.
      wanted: the first arguments of `_load_pass`.
      examples: photos.
      views: of the training photos.
      stored: whether the taps are kept in a store too.
    """
    kept = _load_pass(*wanted, strides).kept
    copies = {"train": 1 + (views.count if views else 0), "eval": 1}
    photos = {split: count_records(split_files(examples, split)) for split in copies}
    rows = sum(photos[split] * number for split, number in copies.items())
    gigabytes = rows * kept.size("train") * (2 if stored else 1) / 1e9
    needs = f"the taps of {sum(photos.values()):,} photos take {gigabytes:.2f} GB"
    within = f"training.decoder.cache_gigabytes ({budget:g})"
    if gigabytes <= budget:
        logging.info("%s of disk, within %s", needs, within)
        return strides, f"; {needs} of disk{', in the store too' if stored else ''}"
    logging.warning("%s, more than %s: each training step computes them instead", needs, within)
    return (), f": {needs}, more than {within}, so each training step computes them"


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
    unfreeze_instead: Parameter[dict[str, Any]] = None,
    augmentation: Parameter[dict[str, Any]] = None,
    strides: Parameter[list[int]] = None,
    cache_gigabytes: Parameter[float] = 0.0,
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
):
    """Runs the frozen backbone over every split once; vectors of photos seen before are looked up.

    Args:
      examples: photos, from ImageExampleGen.
      transform_graph: decodes, resizes and rescales them.
      schema: from DataGate; it is not read, but makes this step wait for the gate.
      feature_vectors: the same examples without `image` and with `feature_vector`, float32 [width], `brightness` and
        `view`. If the backbone can be cut, also with `boundary` and `activations`, the bytes of float16 values in the
        split train and of float32 values in the others. For a decoder instead `mask_ids` without `mask` and, in the
        splits train and eval, `tap_names` and `taps`. `pass.json` next to the splits describes the pass.
      backbone: handle of an image feature vector (`components.backbone.registry`).
      backbone_fingerprint: of the backbone's content; part of the cache key.
      image_size: side of the images that Transform makes, pixels.
      transform_fingerprint: of Transform's code and settings; part of the address of a stored vector.
      store: folder of vectors by content hash; empty to compute every vector.
      code: fingerprint of the code this step runs; part of the cache key and of the address of a stored vector.
      unfreeze: `Unfreezing` without None values; None to keep no activations.
      unfreeze_instead: the same, for activations higher up if those of the first take more than 128 KiB a photo.
      augmentation: arguments of `Views.of`; None for no augmented views.
      strides: of what a decoder reads; None for classification.
      cache_gigabytes: taps that would take more space are not kept, and each training step computes them.
      beam_pipeline: given by TFX.

    Raises:
      BadInput: the backbone cannot be loaded, is not an image feature vector, or lacks the variables or blocks.
    """
    del schema
    module_path = str(feature_vector.resolve(backbone))
    unfreezing = None if unfreeze is None else Unfreezing(**unfreeze)
    views = None if augmentation is None else Views.of(**augmentation)
    wanted: tuple[Any, ...] = (module_path, image_size, unfreezing)
    space = ""
    if strides is not None:
        kept, space = _affordable(tuple(strides), cache_gigabytes, wanted, examples, views, bool(store))
        wanted = (*wanted, kept)
    else:
        decides = [backbone_fingerprint, image_size, unfreeze, unfreeze_instead, code]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
        instead = None if unfreeze_instead is None else Unfreezing(**unfreeze_instead)
        wanted = (*wanted, None, instead, key)
    loaded = _load_pass(*wanted)
    if store:
        decides = [
            *(backbone_fingerprint, transform_fingerprint, image_size),
            *(loaded.kept.names, loaded.run.folded, code),
        ]
        address = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
        store = os.path.join(store, Path(module_path).name + "-" + address[:12])
        fileio.makedirs(store)
    splits = artifact_utils.decode_split_names(examples.split_names)
    with beam_pipeline as pipeline:
        vectors = (
            read_splits(pipeline, examples, splits)
            | "Batch" >> beam.BatchElements(_BATCH, _BATCH)
            | "Vectors"
            >> beam.ParDo(
                _Vectors(
                    transform_graph.uri,
                    WorkerBackbone(backbone, backbone_fingerprint, module_path),
                    wanted[1:],
                    views,
                    store,
                    image_size if strides is not None else 0,
                )
            ).with_outputs(*splits)
        )
        # Half-precision taps hardly get smaller, and packing them takes longer than computing them.
        write_splits(vectors, feature_vectors, splits, packed=not isinstance(loaded.kept, KeptTaps))
    remove_leftovers(feature_vectors, splits)
    _load_pass.cache_clear()  # the steps that follow in this process need the memory
    counts = _counts(pipeline.result)
    note: dict[str, Any] = {
        "frozen_pass": loaded.run.note,
        "cut": f"{loaded.cut_note}{space}",
        _COMPUTED: counts[_COMPUTED],
        _REUSED: counts[_REUSED],
    }
    if dropped := counts[_DROPPED]:
        note[_DROPPED] = dropped
        logging.warning("%d stored vectors were damaged and have been computed again", dropped)
    feature_vectors.set_string_custom_property(PHOTOS_PROPERTY, examples.uri)
    with fileio.open(os.path.join(feature_vectors.uri, PASS_FILE), "w") as file:
        file.write(json.dumps(note, indent=2))
