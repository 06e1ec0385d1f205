"""Asking a model from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.answer import Answer

if TYPE_CHECKING:
    from deploy import prediction


@dataclass(frozen=True)
class Model:
    """A model that a run pushed, in memory."""

    folder: Path
    """Its SavedModel."""
    version: int | None
    """Its number in production's folder; None: it lies elsewhere."""
    labels: tuple[str, ...]
    """Its classes; with masks in the order of their ids."""
    gives_masks: bool
    """Whether it gives a class for each pixel, and not one for the whole photo."""
    _loaded: prediction.Model = field(repr=False, compare=False)

    def predict(self, photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Answer]:
        """Asks about photos, as `warmstart predict` does.

        Args:
          photos: files and folders. A folder stands for every photo in it.

        Returns:
          an answer for each file, in order. A file that cannot be answered has no `probabilities` and no `shares`;
          its `error` says why.

        Raises:
          BadInput: a folder cannot be read, or the folders hold no photo.
        """
        from deploy import prediction, production

        given = [photos] if isinstance(photos, str | os.PathLike) else [*photos]
        if not given:
            return []
        files = production.find_files(tuple(os.fspath(photo) for photo in given))
        return list(prediction.predict(self._loaded, files))


def load(
    root: str | os.PathLike[str] | None = None,
    *,
    version: int | None = None,
    model: str | os.PathLike[str] | None = None,
) -> Model:
    """Loads the model in production.

    Args:
      root: the root folder of the runs; None: the only one below `runs/` in the working directory.
      version: one of the versions in it; None: the one in production.
      model: the folder of a model, in place of a root.

    Raises:
      BadInput: there is no such model, or it is damaged; a sentence says what to do.
    """
    from deploy import production

    folder = production.find_model(
        None if model is None else os.fspath(model), None if root is None else os.fspath(root), version
    )
    from deploy import prediction  # TensorFlow, which a mistake need not wait for

    loaded = prediction.Model(folder)
    return Model(folder, loaded.version, tuple(loaded.labels), loaded.gives_masks, loaded)
