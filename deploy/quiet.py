"""Keeps what libraries say of themselves off the terminal of a person who asked for something else."""

from __future__ import annotations

import logging
import os
import warnings

from deploy import output


def quiet_libraries() -> None:
    """Only errors of TensorFlow, Abseil and Python's warnings are shown; call it before TensorFlow is imported.

    With `--verbose` everything is.
    """
    if output.loudness() == "verbose":
        return
    # TensorFlow reads it once, on import.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    warnings.filterwarnings("ignore")
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
