"""SavedModels that several steps ask: where these run in one process, each is loaded once, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

# Models are kept with their signatures, which do not keep them alive.
_loaded: dict[str, Any] = {}
_MOST = 3  # production, and this run's two; the one that was loaded first goes first
# A worker of a distributed runner sets up several threads at once, and each asks for the same model.
_lock = threading.Lock()


def load_model(folder: str) -> Any:
    """What `tf.saved_model.load` gives, kept until `forget_models`; nobody may change its variables."""
    with _lock:
        if folder not in _loaded:
            _loaded[folder] = tf.saved_model.load(folder)
            _keep_few()
        return _loaded[folder]


def _keep_few() -> None:
    while len(_loaded) > _MOST:
        del _loaded[next(iter(_loaded))]


def remember_model(folder: str, model: Any) -> None:
    """Keeps a model that was just exported to a folder, as if it had been loaded from there."""
    with _lock:
        _loaded[folder] = model
        _keep_few()


def forget_models(folders: Iterable[str]) -> None:
    """Lets models go, loaded or not: the steps that follow in this process need the memory."""
    with _lock:
        for folder in folders:
            _loaded.pop(folder, None)
