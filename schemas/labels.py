"""The classes of a model in the order of its answers: `assets.extra/labels.txt` beside the SavedModel, one a line.

Only `\\n` ends a line: a class may be called what other programs take for several lines, such as `dog<U+2028>big`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, Any

# Loaders of SavedModels pass over the folder.
LABELS_FILE = "assets.extra/labels.txt"


def read_labels(model_folder: str | os.PathLike[str]) -> list[str] | None:
    """The classes of the model in a folder or at an address (`gs://bucket/folder`); None: it has no such file."""
    try:
        with _open(os.path.join(model_folder, LABELS_FILE), "rb") as file:
            return file.read().decode("utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        return None


def write_labels(model_folder: str, labels: Sequence[str]) -> None:
    """Writes the classes of the model in a folder; no name has a line break in it."""
    import tensorflow as tf

    path = os.path.join(model_folder, LABELS_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with _open(path, "wb") as file:
        file.write("".join(label + "\n" for label in labels).encode("utf-8"))


def _open(path: str, mode: str) -> IO[Any]:
    if "://" not in path:
        return open(path, mode)
    import tensorflow as tf

    if "r" in mode and not tf.io.gfile.exists(path):  # it would be missed at the first byte, with another error
        raise FileNotFoundError(path)
    return tf.io.gfile.GFile(path, mode)
