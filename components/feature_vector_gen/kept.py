"""What FeatureVectorGen keeps of a photo beside its vector: activations at one boundary, or taps for a decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from components.backbone.pyramid import Pyramid
from schemas import features as f
from schemas.errors import BadInput

# Splits that are trained or stopped on; of others a decoder is asked about the photos themselves.
_TRAINED_ON = ("train", "eval")


class Kept(Protocol):
    """What is kept of each photo, as bytes in a store and as features in a record."""

    @property
    def names(self) -> str:
        """Of the tensors; empty: none."""

    def size(self, split: str) -> int:
        """Bytes of one photo."""

    def values(self, activations: Any, splits: Sequence[str]) -> list[bytes]:
        """The bytes of each photo of a batch, from the activations that the frozen pass gives."""

    def add(self, example: tf.train.Example, value: bytes) -> None:
        """Adds the features of one photo."""


class NothingKept:
    """No activations."""

    names = ""

    def size(self, split: str) -> int:
        return 0

    def values(self, activations: Any, splits: Sequence[str]) -> list[bytes]:
        return [b""] * len(splits)

    def add(self, example: tf.train.Example, value: bytes) -> None:
        pass


def _halves(tensor: tf.Tensor, remedy: str) -> np.ndarray:
    halves = tf.cast(tensor, tf.float16).numpy()
    if not np.isfinite(halves).all():
        raise BadInput(f"the activations at the freeze boundary exceed float16's range (65504); {remedy}")
    return halves


@dataclass(frozen=True)
class KeptActivations:
    """Activations at the boundary of a cut."""

    boundary: str
    """Of the cut."""
    shape: tuple[int, ...]
    """Of one photo's activations."""

    @property
    def names(self) -> str:
        return self.boundary

    @staticmethod
    def _precision(split: str) -> type[np.floating]:
        """Half precision suffices for training, but evaluation uses the precision of serving."""
        return np.float16 if split == "train" else np.float32

    def size(self, split: str) -> int:
        return np.dtype(self._precision(split)).itemsize * math.prod(self.shape)

    def values(self, activations: Any, splits: Sequence[str]) -> list[bytes]:
        halves = _halves(activations, "set training.fine_tuning.from_activations=false")
        kept = {np.float16: halves, np.float32: activations.numpy()}
        return [kept[self._precision(split)][i].tobytes() for i, split in enumerate(splits)]

    def add(self, example: tf.train.Example, value: bytes) -> None:
        feature = example.features.feature
        feature[f.ACTIVATIONS].bytes_list.value.append(value)
        feature[f.BOUNDARY].bytes_list.value.append(self.boundary.encode())


@dataclass(frozen=True)
class KeptTaps:
    """The cached tensors of a pyramid in half precision, of the splits that are trained on."""

    pyramid: Pyramid

    @property
    def names(self) -> str:
        return ",".join(self.pyramid.cached)

    def size(self, split: str) -> int:
        return 2 * self.pyramid.values if split in _TRAINED_ON else 0

    def values(self, activations: Any, splits: Sequence[str]) -> list[bytes]:
        halves = [_halves(tensor, "set training.decoder.cache_gigabytes=0") for tensor in activations]
        return [
            b"".join(half[i].tobytes() for half in halves) if split in _TRAINED_ON else b""
            for i, split in enumerate(splits)
        ]

    def add(self, example: tf.train.Example, value: bytes) -> None:
        if not value:
            return
        feature = example.features.feature
        start = 0
        for name, shape in zip(self.pyramid.cached, self.pyramid.shapes, strict=True):
            end = start + 2 * math.prod(shape)
            feature[f.TAPS].bytes_list.value.append(value[start:end])
            feature[f.TAP_NAMES].bytes_list.value.append(name.encode())
            start = end
