"""What the whole runs share: drawn photos in both official layouts, and photos that a small backbone tells apart."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.commands import warmstart

DARKEST, BRIGHTEST = {"cat": 0, "dog": 170}, {"cat": 85, "dog": 255}


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    code, output = warmstart("sample", str(folder / "photos"), "--photos", "200")
    assert code == 0, output
    return folder / "photos"


@pytest.fixture(scope="session")
def shaded(sample, tmp_path_factory) -> Path:
    """The drawn cats and dogs, the cats dark and the dogs bright; the broken files among them are as they were."""
    folder = tmp_path_factory.mktemp("shaded") / "cats_vs_dogs"
    shutil.copytree(sample / "cats_vs_dogs", folder)
    for label, darkest in DARKEST.items():
        for path in sorted((folder / label).iterdir()):
            with contextlib.suppress(OSError), Image.open(path) as image:  # of which PIL's errors about images are one
                if image.format == "JPEG":
                    pixels = np.asarray(image.convert("RGB")) / 255 * (BRIGHTEST[label] - darkest) + darkest
                    Image.fromarray(pixels.astype(np.uint8)).save(path, "JPEG")
    return folder


@pytest.fixture(scope="session")
def small(tiny_backbone) -> list[str]:
    """Settings of a run in which next to no time goes into the backbone."""
    settings = [
        f"backbone.handle={tiny_backbone}",
        "image.size=32",
        "training.feature_extraction.learning_rate=0.05",
        "training.fine_tuning.strategy=top",
    ]
    return [f"--set={setting}" for setting in settings]
