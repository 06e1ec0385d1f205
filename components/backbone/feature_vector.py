"""Turns a backbone's handle into a local SavedModel that is known to be an image feature vector."""

import contextlib
import json
import os
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_hub as hub
from absl import logging

from components.backbone import efficientnet_lite, saved_feature_vector
from components.backbone.registry import (
    BACKBONES,
    Backbone,
    cache_folder,
    check_folder,
    converted_folder,
    fingerprint,
    is_address,
    require_handle,
    sha256_of_files,
    weights_file,
)
from components.backbone.torch_checkpoint import read_torch_checkpoint
from schemas.errors import BadInput
from schemas.words import first_line

_CHECKSUMS_FILE = "checksums.json"
DEFAULT_PROBE_PIXELS = 96  # No less than any Keras application takes: InceptionV3 takes no less than 75.


def write_whole(target: Path, write: Callable[[Path], None]) -> None:
    """`target`, written by `write` into a sibling folder and renamed, so it is complete or absent.

    Raises:
      OSError: the folder cannot be made, or `target` has come to hold something meanwhile; and what `write` raises.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _once(target: Path, write: Callable[[Path], None]) -> Path:
    """`target`, written whole by `write` unless it is there and as it was written.

    If two processes write at once, the first wins; leftovers of a killed process do no harm. The folder is in a cache,
    where anything may be deleted or damaged: a folder that does not match its checksums is written again.
    """

    def write_with_checksums(folder: Path) -> None:
        write(folder)
        (folder / _CHECKSUMS_FILE).write_text(json.dumps(_checksums(folder)), encoding="utf-8")

    if target.is_dir() and not _is_whole(target):
        logging.warning("%s has changed since it was written; writing it again", target)
        damaged = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):  # another process was first
            target.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    if not target.is_dir():
        try:
            write_whole(target, write_with_checksums)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _checksums(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256, of every file but the list of them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKSUMS_FILE)
    return {path.relative_to(folder).as_posix(): sha256_of_files(path) for path in files}


def _is_whole(folder: Path) -> bool:
    try:
        wanted = json.loads((folder / _CHECKSUMS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return wanted == _checksums(folder)


def _convert(backbone: Backbone, folder: Path) -> None:
    """Writes the built-in backbone into `folder`, and checks what it wrote by loading and calling it."""
    classifier = efficientnet_lite.build_classifier(backbone.width_coefficient, backbone.depth_coefficient)
    tensors = read_torch_checkpoint(weights_file(backbone), backbone.weights_sha256)
    efficientnet_lite.load_torch_weights(classifier, tensors)
    saved_feature_vector.save_feature_vector(efficientnet_lite.feature_vector_model(classifier), folder)
    width = check_feature_vector(folder)
    if width != backbone.width:
        raise BadInput(f"Converting backbone {backbone.name} gave a width of {width}, expected {backbone.width}.")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks `archive` into `folder`, its members kept inside; one enclosing folder is taken off."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
            while tar.fileobj.read(1 << 20):  # To the very end, where gzip's checksum is compared.
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadInput(f"Backbone archive {archive} cannot be unpacked ({error}): download it again.") from error
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        enclosing = inside[0].rename(folder.with_name(f"{folder.name}.enclosing"))
        folder.rmdir()
        enclosing.rename(folder)
    if problem := check_folder(folder):
        raise BadInput(problem.replace(str(folder), str(archive)))


def resolve(handle: str) -> Path:
    """The local folder of the SavedModel that `handle` names.

    A built-in backbone is converted, and an archive unpacked, once into `cache_folder()`; an address is
    downloaded by tensorflow_hub into its own cache (`$TFHUB_CACHE_DIR`); a folder is itself.

    Raises:
      BadInput: as `registry.check_handle`, or the archive, the address or the weights cannot be read.
    """
    require_handle(handle)
    if handle in BACKBONES:
        backbone = BACKBONES[handle]
        return _once(converted_folder(backbone), lambda folder: _convert(backbone, folder))
    if is_address(handle):
        try:
            folder = Path(hub.resolve(handle))
        except Exception as error:  # urllib, ssl, tarfile and gfile each raise their own.
            raise BadInput(f"Backbone {handle} cannot be downloaded: {first_line(error).rstrip('.')}.") from error
        if problem := check_folder(folder):
            raise BadInput(problem.replace(str(folder), handle))
        return folder
    path = Path(os.path.expanduser(handle))
    if path.is_dir():
        return path
    target = cache_folder() / "backbones" / f"archive-{fingerprint(handle)[:12]}"
    return _once(target, lambda folder: _unpack(path, folder))


def _load(path: Path) -> Any:
    try:
        return hub.load(str(path))
    except Exception as error:  # Damaged protocol buffers and variables fail in many ways.
        raise BadInput(f"Backbone {path} cannot be loaded ({first_line(error)}): download it again.") from error


def _input_shapes(module: Any) -> list[tf.TensorShape]:
    """Shapes of the first argument that the module was traced for; empty where it does not say."""
    traced = getattr(module.__call__, "concrete_functions", [])
    first_arguments = (function.structured_input_signature[0][:1] for function in traced)
    return [spec.shape for specs in first_arguments for spec in specs if isinstance(spec, tf.TensorSpec)]


def _width(module: Any, path: Path, image_size: int | None) -> int:
    """The width of a loaded module's feature vector; BadInput if it gives none."""
    if not callable(module):
        raise BadInput(
            f"Backbone {path} has no __call__ (a SavedModel for serving, or a TF1 module); "
            "expected a TF-Hub image feature vector in TF2 format: use that version."
        )
    if not list(getattr(module, "variables", [])):
        raise BadInput(f"Backbone {path} lists no variables; expected a TF-Hub TF2 SavedModel, not a frozen graph.")
    taken = _input_shapes(module)
    asked_for = [shape[1] for shape in taken if shape.rank == 4 and shape[1]]
    pixels = image_size or (asked_for or [DEFAULT_PROBE_PIXELS])[0]
    try:
        features = hub.KerasLayer(module, trainable=False)(tf.fill([2, pixels, pixels, 3], 0.5))
    except Exception as error:  # TensorFlow answers a wrong shape with many kinds of errors.
        raise BadInput(
            f"Backbone {path} does not take float32 [2, {pixels}, {pixels}, 3] images (its inputs: "
            f"{', '.join(sorted({str(shape) for shape in taken})) or 'unknown'}): "
            "use an image size that it takes, or another backbone."
        ) from error
    if not tf.is_tensor(features) or features.shape.rank != 2 or not features.dtype.is_floating:
        found = f"{features.dtype.name} {features.shape}" if tf.is_tensor(features) else type(features).__name__
        raise BadInput(
            f"Backbone {path} returns {found} for two images, expected float32 (2, width): "
            "use the module's feature-vector version."
        )
    if not bool(tf.reduce_all(tf.math.is_finite(features))):
        raise BadInput(
            f"Backbone {path} returns values that are not finite for images of {pixels} pixels: raise `image.size` if "
            "that is too small; otherwise its weights are damaged, so download it again."
        )
    return int(features.shape[1])


def check_feature_vector(path: str | Path, image_size: int | None = None) -> int:
    """The width of the feature vector in the folder `path`; `image_size` and errors as in `load`."""
    return _width(_load(Path(path)), Path(path), image_size)


def load(handle: str | Path, image_size: int | None = None) -> Any:
    """Loads a backbone and makes sure that it is an image feature vector.

    Args:
      handle: a handle, or a folder from `resolve`.
      image_size: the side in pixels to try it with; None for the one a fixed-size module asks for, else 96.

    Returns:
      The loaded object: `hub.KerasLayer(module)` maps float32 [batch, height, width, 3], range [0, 1], to
      float32 [batch, width].

    Raises:
      BadInput: it cannot be resolved or loaded, or is not an image feature vector with variables.
    """
    path = resolve(str(handle))
    module = _load(path)
    _width(module, path, image_size)
    return module
