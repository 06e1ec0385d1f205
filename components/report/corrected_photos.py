"""The photos that corrections are about, and what the winner of the run answers for them now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf
from tfx.types import Artifact, artifact_utils

from components.records import read_examples, split_files, text
from components.report.thumbnails import Album
from schemas import features as f
from schemas.summary import CorrectedPhoto

MOST_ASKED, MOST_SHOWN = 500, 24
_BATCH = 16


def ask(corrected: Sequence[CorrectedPhoto], photos: Artifact, model: str) -> list[CorrectedPhoto]:
    """The same photos, the first `MOST_ASKED` of those that are used with the model's answers.

    Args:
      corrected: the photos, the last corrected first.
      photos: examples with the feature `image`.
      model: folder of a SavedModel that warmstart exported.
    """
    used = [one.content_hash for one in corrected if one.new_label][:MOST_ASKED]
    if not used:
        return list(corrected)
    answers = dict(_answers(tf.saved_model.load(model), photos, set(used)))
    asked = []
    for one in corrected:
        label, probability = answers.get(one.content_hash, (None, None))
        asked.append(replace(one, answer=label, probability=probability) if one.new_label else one)
    return asked


def _answers(model: Any, photos: Artifact, wanted: set[str]) -> Iterator[tuple[str, tuple[str, float]]]:
    """Content hash, and label and probability, of each photo that is found."""
    waiting: list[tuple[str, bytes]] = []
    for content_hash, photo in _find(photos, wanted):
        waiting.append((content_hash, photo))
        if len(waiting) == _BATCH:
            yield from _ask_some(model, waiting)
            waiting = []
    yield from _ask_some(model, waiting)


def _ask_some(model: Any, some: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, tuple[str, float]]]:
    if not (some := list(some)):
        return
    said = model.signatures["serving_default"](image_bytes=tf.constant([photo for _, photo in some]))
    labels, probabilities = said["label"].numpy(), said["probability"].numpy()
    for (content_hash, _), label, probability in zip(some, labels, probabilities, strict=True):
        yield content_hash, (label.decode(), float(probability))


def _find(photos: Artifact, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    missing = set(wanted)
    for split in artifact_utils.decode_split_names(photos.split_names):
        for example in read_examples(split_files(photos, split)):
            content_hash = text(example, f.CONTENT_HASH)
            if content_hash in missing:
                missing.remove(content_hash)
                yield content_hash, example.features.feature[f.IMAGE].bytes_list.value[0]
            if not missing:
                return


def shown(corrected: Sequence[CorrectedPhoto], album: Album) -> list[dict[str, Any]]:
    """The first photos for the page, with a thumbnail of each that is used."""
    found = []
    for one in corrected[:MOST_SHOWN]:
        photo: dict[str, Any] = {"name": one.file_name, "label": "", "split": one.split, "thumbnail": None}
        if one.new_label:
            photo = album.photo(one.content_hash, one.file_name, one.new_label, one.split)
        told = {name: getattr(one, name) for name in ("old_label", "new_label", "who", "when", "answer", "probability")}
        found.append({"photo": photo, **told})
    return found
