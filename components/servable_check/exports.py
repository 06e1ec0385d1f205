"""Further formats of the model, put beside the SavedModel: TFLite and ONNX."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio

from components.servable_check import converter, export_probe, fresh_process
from schemas.verdicts import ExportFindings


def export_file(saved_model: str, export_format: str) -> str:
    """Where an export lies in the model's folder."""
    return os.path.join(saved_model, "assets.extra", f"model.{export_format}")


def convert(saved_model: str, formats: Sequence[str]) -> None:
    """Writes the exports into the model's folder, each in a process of its own: a converter may abort its process.

    What they take and give stands in `converter`.

    Args:
      saved_model: folder of a model with `probabilities_of_images`.

    Raises:
      ProcessFailed: one could not be converted.
    """
    fileio.makedirs(os.path.dirname(export_file(saved_model, "")))
    for export_format in formats:
        try:
            fresh_process.run(converter, saved_model, export_file(saved_model, export_format))
        except fresh_process.ProcessFailed as error:
            raise fresh_process.ProcessFailed(f"the export to {export_format} failed: {error}") from None


def compare(saved_model: str, export_format: str, images_file: str, expected: np.ndarray) -> ExportFindings:
    """Asks an export about images in a fresh process.

    Args:
      saved_model: folder of the model that the export lies in.
      images_file: `.npy`, float32 [images, size, size, 3], range [0, 1].
      expected: float32 [images, ..., classes], range [0, 1], what the model itself answers.

    Raises:
      ProcessFailed: the export could not be asked.
    """
    file = export_file(saved_model, export_format)
    with tempfile.TemporaryDirectory() as folder:
        answers_file = os.path.join(folder, "answers.npz")
        try:
            fresh_process.run(export_probe, file, images_file, answers_file)
        except fresh_process.ProcessFailed as error:
            raise fresh_process.ProcessFailed(f"the export to {export_format} does not answer: {error}") from None
        with np.load(answers_file) as answers:
            found = [answers[name] for name in ("probabilities", "together") if name in answers.files]
            latency = float(np.median(answers["latency_seconds"]) * 1000)
    differences = [
        float(np.max(np.abs(each - expected))) if each.shape == expected.shape else float("inf") for each in found
    ]
    return ExportFindings(
        largest_difference=float(np.max(differences)),  # Python's max() may pass over a NaN
        megabytes=tf.io.gfile.stat(file).length / 1e6,
        latency_milliseconds=latency,
    )
