"""Checks that the optional packages needed by the configuration are installed. Imports nothing slow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from schemas.errors import BadInput

_FOR_ONNX = ("tf2onnx", "onnx", "onnxruntime")


def require_packages(exports: Sequence[str]) -> None:
    """Makes sure that the exports can be written and read.

    Raises:
      BadInput: ONNX is asked for and a package for it is not installed.
    """
    missing = [package for package in _FOR_ONNX if "onnx" in exports and find_spec(package) is None]
    if missing:
        raise BadInput(
            f"serving.exports includes onnx, which needs the packages {', '.join(_FOR_ONNX)}, but {missing[0]} is not "
            "installed: pip install 'warmstart[onnx]', or remove onnx from serving.exports"
        )
