"""Photos with masks that arrive in spans: a window of them, nights without news, and a mask that was corrected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.commands import warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]

SIDE = 48  # pixels
PHOTOS = 40


def write_span(folder: Path, seed: int, colour: int) -> None:
    """Bright discs on a dark ground, with palette masks; a few masks are missing or too small."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    for i in range(PHOTOS):
        centre, radius = SIDE * rng.uniform(0.35, 0.65, 2), SIDE * rng.uniform(0.2, 0.33)
        ids = (np.hypot(y - centre[0], x - centre[1]) < radius).astype(np.uint8)
        grey = np.choose(ids, [40, colour])[..., np.newaxis] + rng.normal(0, 22, (SIDE, SIDE, 3))
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / "images" / f"{seed}-{i}.png")
        write_mask(folder, f"{seed}-{i}", ids)
    (folder / "masks" / f"{seed}-0_mask.png").unlink()
    (folder / "masks" / "classes.txt").write_text("ground\ndisc\n")
    (folder / "_SUCCESS").touch()


def write_mask(folder: Path, name: str, ids: np.ndarray) -> None:
    mask = Image.fromarray(ids, "P")
    mask.putpalette([0, 0, 0, 128, 0, 0])
    mask.save(folder / "masks" / f"{name}_mask.png")


class Nights:
    def __init__(self, folder: Path, backbone: str):
        self.data, self.root = folder / "photos", folder / "root"
        self._arguments = [
            "retrain", "--config=image_masks", f"--data={self.data}/span-{{SPAN}}", f"--root={self.root}",
            *(f"--set={setting}" for setting in (
                f"backbone.handle={backbone}", "image.size=32", "data.window=2", "data.settle_seconds=86400",
                "data.splits={train: 3, eval: 1, test: 1}", "training.decoder.strides=[2]",
                "training.decoder.widths=[8]", "training.feature_extraction.epochs=4",
                "training.fine_tuning.epochs=1", "training.fine_tuning.strategy=all", "release.minimum_test_photos=0",
                "serving.golden_photos=4",
            )),
        ]  # fmt: skip

    def night(self) -> tuple[int, str]:
        return warmstart(*self._arguments)

    @property
    def summary(self) -> dict:
        newest = sorted((self.root / "reports").glob("*/summary.json"))[-1]
        return json.loads(newest.read_text())

    @property
    def runs(self) -> int:
        return len(list((self.root / "reports").glob("*/summary.json")))


def test_nights_with_masks(tiny_backbone, tmp_path):
    nights = Nights(tmp_path, tiny_backbone)
    for number in (1, 2):
        write_span(nights.data / f"span-{number}", seed=number, colour=200 + 10 * number)
    code, output = nights.night()
    assert code in (0, 3), output  # pushed, or refused by verdict
    first = nights.summary
    assert sum(first["window"]["data"]["accepted"].values()) == 2 * (PHOTOS - 1)
    assert first["data"]["rejected"] == {"mask_missing": 1}
    assert nights.runs == 1

    assert nights.night()[0] == 0
    assert nights.runs == 1, "nothing is new, so nothing is trained"

    # Somebody corrects a mask of the newest span.
    corrected = np.zeros((SIDE, SIDE), np.uint8)
    corrected[10:30, 5:25] = 1
    write_mask(nights.data / "span-2", "2-7", corrected)
    code, output = nights.night()
    assert code in (0, 3), output
    assert nights.runs == 2
    second = nights.summary
    assert second["window"]["data"]["accepted"] == first["window"]["data"]["accepted"], "no photo changes its split"
    states = {node["id"]: node["state"] for node in second["nodes"]}
    assert states["ImageExampleGen"] == states["Window"] == "done"
