"""Keeps the messages of libraries off the terminal."""

from __future__ import annotations

import logging
import os
import warnings

from deploy import output


def quiet_libraries() -> None:
    """Hides everything but errors of TensorFlow and Abseil, unless `--verbose` was given.

    Call it before TensorFlow is imported.
    """
    if output.loudness() == "verbose":
        return
    # TensorFlow reads it once, on import.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.filterwarnings("ignore")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
