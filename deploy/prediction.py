"""Predictions of a served model for photos on disk: the part of `predict` that needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.example_gen.conversion import read_path, read_photo
from components.example_gen.photo import PhotoRejected
from components.example_gen.photo_rules import PhotoRules, read_rules
from deploy.answer import Answer
from deploy.collection import Collection, is_unsure, why_not_kept
from deploy.production import columns
from schemas.errors import BadInput
from schemas.labels import LABELS_FILE, read_labels
from schemas.safe_csv import csv_bytes
from schemas.words import first_line

BATCH_SIZE = 32
MASK_BATCH_SIZE = 4  # masks are as large as the photos
_SIGNATURE, _INPUT, _OUTPUTS = "serving_default", "image_bytes", {"label", "probability", "probabilities"}
_MOST_CLASSES = 6
_MASK_OUTPUTS = {"mask_png_bytes", "class_shares"}


class Model:
    """A SavedModel that warmstart exported.

    Attributes:
      rules: the rules by which photos are accepted and read.
      labels: the classes, in the order of `probabilities` or of the ids of masks.
      version: its number in a serving folder; None: it lies elsewhere.
    """

    def __init__(self, folder: Path):
        """Loads the model in `folder`.

        Raises:
          BadInput: it is not such a model, or damaged.
        """
        if not (folder / "saved_model.pb").is_file():
            raise BadInput(
                f"{folder} is not a SavedModel: it has no saved_model.pb; expected a model that warmstart pushed"
            )
        try:
            self._model = tf.saved_model.load(str(folder))
        except Exception as error:  # damaged graphs and variables fail in many ways
            raise BadInput(
                f"the model in {folder} is damaged and cannot be loaded ({first_line(error)}); choose another "
                "version or folder"
            ) from None
        signature = getattr(self._model, "signatures", {}).get(_SIGNATURE)
        outputs = set(signature.structured_outputs) if signature is not None else set()
        self.gives_masks = outputs >= _MASK_OUTPUTS
        if (
            signature is None
            or set(signature.structured_input_signature[1]) != {_INPUT}
            or not (self.gives_masks or outputs >= _OUTPUTS)
            or not (folder / LABELS_FILE).is_file()
        ):
            raise BadInput(
                f"the model in {folder} was not made by warmstart: it has no {LABELS_FILE}, or no signature "
                f"{_SIGNATURE} from {_INPUT} to {', '.join(sorted(_OUTPUTS))}, or to "
                f"{' and '.join(sorted(_MASK_OUTPUTS))}"
            )
        self.rules = read_rules(folder)
        self.labels = read_labels(folder) or []
        self.version = int(folder.name) if folder.name.isdecimal() else None

    def photo_signatures(self) -> list[str]:
        """The names of the signatures that take nothing but photos."""
        return [
            name
            for name, signature in self._model.signatures.items()
            if set(signature.structured_input_signature[1]) == {_INPUT}
        ]

    def outputs(self, signature: str) -> dict[str, tuple[np.dtype, list[int]]]:
        """Name -> type and shape of each output of a signature; -1 stands for any size."""
        return {
            name: (np.dtype(output.dtype.as_numpy_dtype), [-1 if size is None else size for size in output.shape])
            for name, output in self._model.signatures[signature].structured_outputs.items()
        }

    def run(self, signature: str, photos: list[bytes]) -> dict[str, np.ndarray]:
        """What a signature that takes photos says of at least one of them: name -> array [photos, ...].

        Raises:
          tf.errors.OpError, UnicodeDecodeError: a photo cannot be decoded.
        """
        outputs = self._model.signatures[signature](**{_INPUT: tf.constant(photos)})
        return {name: output.numpy() for name, output in outputs.items()}

    def answer(self, files: list[str], photos: list[bytes]) -> list[Answer]:
        """The answers for one or more photos, in order.

        Raises:
          tf.errors.OpError, UnicodeDecodeError: a photo cannot be decoded; then there is no answer for any of them.
        """
        said = self.run(_SIGNATURE, photos)
        if self.gives_masks:
            return [
                Answer(file, shares=shares_of(self.labels, said["class_shares"][i]), mask_png=png, photo=photos[i])
                for i, (file, png) in enumerate(zip(files, said["mask_png_bytes"], strict=True))
            ]
        abstains = said.get("abstains", np.zeros(len(files), bool))  # models of older versions always answer
        return [
            Answer(
                file,
                said["label"][i].decode(),
                float(said["probability"][i]),
                bool(abstains[i]),
                dict(zip(self.labels, map(float, said["probabilities"][i]), strict=True)),
            )
            for i, file in enumerate(files)
        ]


def shares_of(labels: Sequence[str], shares: np.ndarray) -> dict[str, float]:
    """Share of the pixels of each class, range [0, 1]; shares: float32 [classes]."""
    return dict(zip(labels, map(float, shares), strict=True))


def predict(model: Model, files: list[str], on_progress: Callable[[int], None] = lambda done: None) -> Iterator[Answer]:
    """An answer for each file, in order.

    Args:
      files: files; one that is not a photo gets an answer with an error.
      on_progress: called after each batch with the number of files that are done.
    """
    size = MASK_BATCH_SIZE if model.gives_masks else BATCH_SIZE
    for start in range(0, len(files), size):
        batch = files[start : start + size]
        found: list[Answer | bytes] = [_read(file, model.rules) for file in batch]
        photos = {i: photo for i, photo in enumerate(found) if isinstance(photo, bytes)}
        answers = iter(_answer(model, [batch[i] for i in photos], list(photos.values())))
        yield from (next(answers) if isinstance(item, bytes) else item for item in found)
        on_progress(start + len(batch))


def _read(file: str, rules: PhotoRules) -> bytes | Answer:
    """The bytes of a photo for the model, or an answer with an error."""
    path = Path(file)
    try:
        if path.exists() and not path.is_file():
            raise PhotoRejected("unreadable", "is not a file; expected a photo.")
        return read_photo(read_path(path, rules), rules).photo_bytes
    except PhotoRejected as rejected:
        return Answer(file, reason=rejected.reason, error=f"{file} {rejected.detail}")
    except OSError as error:
        return Answer(file, reason="unreadable", error=f"{file} cannot be read: {error.strerror}.")


def _answer(model: Model, files: list[str], photos: list[bytes]) -> list[Answer]:
    """Answers of one batch; a photo that cannot be decoded costs the others only time."""
    if not files:
        return []
    try:
        return model.answer(files, photos)
    except (tf.errors.OpError, UnicodeDecodeError):  # the latter where TensorFlow's message quotes the photo
        if len(files) == 1:
            detail = f"{files[0]} is a photo that the model cannot decode; save it again as a plain JPEG."
            return [Answer(files[0], reason="corrupt", error=detail)]
        return [_answer(model, [file], [photo])[0] for file, photo in zip(files, photos, strict=True)]


def without_mask(answer: Answer) -> Answer:
    """The answer without what takes the most memory."""
    return replace(answer, mask_png=b"", photo=b"")


def for_programs(answer: Answer) -> dict[str, Any]:
    """An answer in JSON's types; a mask itself is in a file."""
    if answer.error:
        return {"file": answer.file, "reason": answer.reason, "error": answer.error}
    if answer.shares is not None:
        return {"file": answer.file, "shares": answer.shares}
    return {
        "file": answer.file,
        "label": answer.label,
        "probability": answer.probability,
        "abstains": answer.abstains,
        "probabilities": answer.probabilities,
    }


def for_spreadsheets(answers: list[Answer], labels: list[str]) -> bytes:
    """The answers as CSV (`schemas/safe_csv.py`): a row for each file, a column for the probability of each class."""
    columns_of = {label: f"probability of {label}" for label in labels}
    rows = [
        {
            "file": answer.file,
            "label": answer.label,
            "probability": answer.probability if answer.probabilities is not None else None,
            "abstains": ("yes" if answer.abstains else "no") if answer.probabilities is not None else None,
            "reason": answer.reason,
            "error": answer.error,
            **{columns_of[label]: p for label, p in (answer.probabilities or {}).items()},
        }
        for answer in answers
    ]
    return csv_bytes(["file", "label", "probability", "abstains", "reason", "error", *columns_of.values()], rows)


def collect(answers: list[Answer], collection: Collection, version: int | None) -> tuple[int, int]:
    """Copies photos that the model is not sure of into a collection; gives how many of them, and how many there are.

    Args:
      collection: where photos go; those that are there already are not copied again.

    Raises:
      BadInput: a photo cannot be copied.
    """
    kept = unsure = 0
    for answer in answers:
        if answer.probabilities is None or not is_unsure(answer.probabilities, answer.abstains):
            continue
        unsure += 1
        try:
            photo = Path(answer.file).read_bytes()
            kept += collection.offer(
                photo, answer.label, answer.probabilities, answer.abstains, name=answer.file, version=version
            )
        except OSError as error:
            raise BadInput(f"{why_not_kept(error, collection.folder)}; free some space, or choose another") from None
    return kept, unsure


def for_people(answers: list[Answer]) -> str:
    """The answers as a table with the runners-up, without errors; of masks the classes with the most pixels."""
    of_masks = [[answer.file, *_largest(answer.shares)] for answer in answers if answer.shares is not None]
    if of_masks:
        most = max(map(len, of_masks))
        return "".join(f"{line}\n" for line in columns([[*row, *[""] * (most - len(row))] for row in of_masks]))
    rows = []
    for answer in answers:
        if answer.probabilities is not None:
            others = {label: p for label, p in answer.probabilities.items() if label != answer.label}
            second = max(others, key=lambda label: others[label])
            rows.append(
                [
                    answer.file,
                    answer.label,
                    f"{answer.probability:.1%}",
                    "abstains" if answer.abstains else "",
                    f"{second} {others[second]:.1%}",
                ]
            )
    if not rows:
        return ""
    return "".join(f"{line}\n" for line in columns([["file", "label", "probability", "", "runner-up"], *rows]))


def _largest(shares: dict[str, float]) -> list[str]:
    """The classes with the most pixels, in the order of the ids, and how many others there are."""
    there = [label for label, share in shares.items() if share > 0]
    largest = set(sorted(there, key=lambda label: -shares[label])[:_MOST_CLASSES])
    shown = [f"{label} {shares[label]:.1%}" for label in there if label in largest]
    rest = len(there) - len(shown)
    return [*shown, *([f"and {rest} more"] if rest else [])]
