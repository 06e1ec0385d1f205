"""The version of the model that answers, and the change from one version to the next.

TensorFlow Serving's default is followed (`components.serving_folder`): the highest version in the folder is wanted, it
is loaded while the one before goes on answering, and only then takes its place. A request keeps the version that was
current when it came, so all of its photos are answered by one version, and an old version goes when its last request is
answered.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from components.example_gen.conversion import read_photo
from components.example_gen.photo import PhotoRejected
from components.serving_folder.folder import ServingFolder
from deploy.prediction import Model
from deploy.serve.protocol import DEFAULT_SIGNATURE
from schemas.errors import BadInput

_RETRY_SECONDS = 60
_LARGE_PIXELS = 25_000_000


@dataclass(frozen=True)
class ReadyPhoto:
    """A photo for the model. photo_bytes: JPEG, PNG, GIF or BMP. pixels: width times height."""

    photo_bytes: bytes
    pixels: int


class ModelVersion:
    """A loaded version.

    Attributes:
      labels: of `probabilities`, in order.
      metadata: all signatures, as TensorFlow Serving describes them.
    """

    def __init__(self, number: int, folder: Path):
        """Loads the model in `folder`, and reads and answers one photo, since the first takes seconds.

        Raises:
          BadInput: it cannot be loaded.
        """
        self.number = number
        self.folder = folder
        self._model = Model(folder)
        self.labels = self._model.labels
        self.signatures = self._model.photo_signatures()
        buffer = io.BytesIO()
        Image.linear_gradient("L").convert("RGB").save(buffer, "JPEG")
        with contextlib.suppress(PhotoRejected):  # by rules that ask for larger photos
            self.read(buffer.getvalue())
        try:
            self._model.run(DEFAULT_SIGNATURE, [buffer.getvalue()])
        except tf.errors.OpError as error:
            raise BadInput(f"the model in {folder} answers no photo ({str(error).splitlines()[0]})") from None
        self.metadata = _signature_defs(folder)

    def read(self, photo: bytes) -> ReadyPhoto:
        """A file for the model, by the rules that came with it.

        Raises:
          PhotoRejected: it is not such a photo.
        """
        rules = self._model.rules
        if len(photo) > rules.max_file_megabytes * 1e6:
            raise PhotoRejected(
                "too_large", f"has {len(photo) / 1e6:,.0f} MB, and at most {rules.max_file_megabytes} MB are read."
            )
        ready = read_photo(photo, rules)
        return ReadyPhoto(ready.photo_bytes, ready.facts.width * ready.facts.height)

    def run(self, signature: str, photos: list[bytes]) -> list[dict[str, np.ndarray] | Exception]:
        """The outputs for each photo, name -> array [...]; an exception for a photo that cannot be decoded."""
        try:
            outputs = self._model.run(signature, photos)
        except (tf.errors.OpError, UnicodeDecodeError) as error:  # the latter where TensorFlow's quotes the photo
            if len(photos) > 1:  # which one it was is found out by asking each
                return [self.run(signature, [photo])[0] for photo in photos]
            if isinstance(error, tf.errors.ResourceExhaustedError):
                raise
            return [PhotoRejected("corrupt", "cannot be decoded by the model; save it again as a plain JPEG.")]
        return [{name: output[i] for name, output in outputs.items()} for i in range(len(photos))]

    def outputs(self) -> dict[str, tuple[np.dtype, list[int]]]:
        """Name -> type and shape of each output of the default signature; -1 stands for any size."""
        return self._model.outputs(DEFAULT_SIGNATURE)


def is_large(photo: bytes) -> bool:
    """Whether reading a file may take hundreds of megabytes and seconds, however few bytes it has.

    Judged by its header; a file without a header that Pillow knows counts as large.
    """
    try:
        with Image.open(io.BytesIO(photo)) as image:
            return image.width * image.height > _LARGE_PIXELS
    except Exception:  # Pillow raises a dozen kinds
        return True


def _signature_defs(folder: Path) -> dict[str, Any]:
    """The JSON form of TensorFlow Serving's `SignatureDefMap`.

    By hand: protobuf's printer of default values has another name in each version that the two targets have.
    """
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signatures = {
        name: {
            "inputs": {key: _tensor_info(tensor) for key, tensor in signature.inputs.items()},
            "outputs": {key: _tensor_info(tensor) for key, tensor in signature.outputs.items()},
            "method_name": signature.method_name,
        }
        for name, signature in saved.meta_graphs[0].signature_def.items()
        if not name.startswith("__")  # TensorFlow's own, for saving
    }
    return {"signature_def": signatures}


def _tensor_info(tensor: meta_graph_pb2.TensorInfo) -> dict[str, Any]:
    shape = tensor.tensor_shape
    return {
        "dtype": types_pb2.DataType.Name(tensor.dtype),
        "tensor_shape": {
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
        "name": tensor.name,
    }


class ServedModel:
    """The version that answers now.

    Attributes:
      name: of the model, in addresses.
      current: the version that new requests get.
      loading: the version that is being loaded; None: none.
      failed: version -> why it could not be loaded, of the newest one.
    """

    def __init__(self, name: str, current: ModelVersion, folder: ServingFolder | None):
        """
        Args:
          folder: where new versions come from; None: the version stays.
        """
        self.name = name
        self.current = current
        self.loading: int | None = None
        self.failed: dict[int, str] = {}
        self._folder = folder
        self._retry_at = 0.0

    @classmethod
    def of_folder(cls, name: str, folder: Path) -> ServedModel:
        """The model in one folder, for ever.

        Raises:
          BadInput: it cannot be loaded.
        """
        version = folder.resolve().name
        number = int(version) if version.isascii() and version.isdecimal() and len(version) < 19 else 1
        return cls(name, ModelVersion(number, folder), None)

    @classmethod
    def of_production(cls, name: str, folder: ServingFolder) -> ServedModel:
        """What is in production, now and later.

        Raises:
          BadInput: nothing is, or it cannot be loaded.
        """
        version = folder.production()
        if version is None:
            raise BadInput(f"nothing is in production in {folder.folder}; run `warmstart run` first")
        return cls(name, ModelVersion(version, folder.folder / str(version)), folder)

    def update(self, on_change: Callable[[str], None]) -> None:
        """Takes up the version that is in production, if it is another one; may take many seconds.

        A version that cannot be loaded is tried again after a minute, and the current one stays meanwhile.

        Args:
          on_change: is told in one line what happened.
        """
        wanted = self._folder.production() if self._folder else None
        if self._folder is None or wanted is None or wanted == self.current.number:
            return
        if wanted in self.failed and time.monotonic() < self._retry_at:
            return
        self.loading = wanted
        try:
            before, self.current = self.current.number, ModelVersion(wanted, self._folder.folder / str(wanted))
            self.failed = {}
            on_change(f"version {wanted} answers in place of version {before}")
        except (BadInput, OSError) as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            if wanted not in self.failed:
                on_change(f"version {wanted} cannot be loaded, and version {self.current.number} stays: {error}")
            self.failed = {wanted: str(error)}
        finally:
            self.loading = None
