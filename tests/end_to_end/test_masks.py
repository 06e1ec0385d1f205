"""Whole runs of masks, one after another on one root: both verdicts, a class that is lost, a rollback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.commands import run, states, warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]

CLASSES = ["pet", "background", "border"]
PHOTOS = {"train": 48, "val": 30, "test": 30}
SIDE = 48  # pixels


def write_photos(folder: Path, without_border: tuple[str, ...] = ()) -> Path:
    """Bright discs with a grey rim on a dark ground; in some splits only two masks have the rim as a class."""
    rng = np.random.default_rng(5)
    for split, count in PHOTOS.items():
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(count):
            y, x = np.mgrid[:SIDE, :SIDE] + 0.5
            centre, radius = SIDE * rng.uniform(0.35, 0.65, 2), SIDE * rng.uniform(0.2, 0.33)
            distance = np.hypot(y - centre[0], x - centre[1])
            ids = np.where(distance < radius - 4, 0, np.where(distance < radius, 2, 1)).astype(np.uint8)
            grey = np.choose(ids, [210, 40, 125])[..., np.newaxis] + rng.normal(0, 22, (SIDE, SIDE, 3))
            Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / "images" / split / f"{split}{i}.png")
            if split in without_border and i > 1:
                ids[ids == 2] = 1
            Image.fromarray(ids).save(folder / "masks" / split / f"{split}{i}.png")
    (folder / "masks" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return folder


@pytest.fixture(scope="module")
def settings(tiny_backbone) -> list[str]:
    """Of a run in which next to no time goes into the backbone, and nobody is content with the first phase."""
    return [
        f"--set={setting}"
        for setting in (
            f"backbone.handle={tiny_backbone}",
            "image.size=32",
            "training.decoder.strides=[2]",
            "training.decoder.widths=[16]",
            "training.batch_size=8",
            "training.feature_extraction.epochs=1",
            "training.fine_tuning.epochs=25",
            "training.fine_tuning.strategy=all",
            "training.fine_tuning.learning_rate=0.02",
            "release.tolerated_loss=0.5",
            "serving.golden_photos=4",
        )
    ]


@pytest.fixture(scope="module")
def runs(settings, tmp_path_factory) -> tuple[Path, Path, list[tuple[int, str, dict]]]:
    """The root, good photos, and three runs: good masks; masks whose border is gone; the same, pushed by force."""
    folder = tmp_path_factory.mktemp("masks")
    good, careless = write_photos(folder / "good"), write_photos(folder / "careless", ("train", "val"))
    root = folder / "root"
    return (
        root,
        good,
        [
            run(good, root, *settings, config="image_masks"),
            run(careless, root, *settings, config="image_masks"),
            run(careless, root, *settings, "--force-push=the border is not needed", config="image_masks"),
        ],
    )


def test_a_proven_gain_in_mean_iou_is_pushed(runs):
    root, _, [(code, output, summary), *_] = runs
    assert code == 0, output
    assert summary["status"] == "pushed"
    assert summary["winner"] == "fine_tuned"
    assert set(states(summary).values()) == {"complete"}
    assert summary["verdict"]["interval"][0] > 0
    assert "mean IoU" in summary["verdict"]["text"]
    assert list(summary["data"]["pixel_classes"]["train"]) == CLASSES
    for model in ("feature_extraction", "fine_tuned"):
        measured = summary["models"][model]
        assert list(measured["per_class"]) == CLASSES
        assert measured["mean_iou"]["low"] < measured["mean_iou"]["value"] < measured["mean_iou"]["high"]
        # Each photo has as many pixels at the model's size.
        assert np.sum(measured["confusion_matrix"]) == PHOTOS["test"] * 32**2
    winner = summary["models"]["fine_tuned"]
    assert winner["mean_iou"]["value"] > 0.6
    assert summary["servable"]["warm_up_requests"] == 10  # five signatures, alone and in a batch
    assert summary["release"]["mean_iou"] == winner["mean_iou"]["value"]
    assert "mean IoU" in output
    assert "pixel accuracy" in output
    assert "IoU of fine-tuned: border" in output
    page = (root / "reports" / summary["run_id"] / "index.html").read_text(encoding="utf-8")
    assert "fine-tuning won" in page
    assert page.count("drawn over photo") >= 4 * 5
    manifest = json.loads(warmstart("history", f"--root={root}", "--json")[1])["versions"][0]
    assert manifest["metrics"]["mean_iou"] == winner["mean_iou"]
    assert manifest["labels"] == CLASSES


def test_a_model_that_has_lost_a_guarded_class_is_refused(runs):
    _, _, [(_, _, good), (code, output, refused), _] = runs
    assert code == 3, output
    assert refused["status"] == "not_pushed"
    compared = refused["release"]["production"]
    version = good["production"]["after"]
    assert (compared["state"], str(compared["version"]), compared["examples"]) == ("comparable", version, 30)
    # The same test photos: production is as good as when it was released.
    was = good["models"][good["winner"]]["mean_iou"]["value"]
    now = refused["models"][refused["winner"]]["mean_iou"]["value"]
    assert compared["difference"] == pytest.approx(now - was, abs=1e-6)
    [lost] = [each["label"] for each in compared["classes"] if each["lost"]]
    assert lost == "border"
    [reason] = refused["release"]["refusals"]
    assert reason.startswith("on the guarded class 'border': IoU -")
    assert reason.endswith(f", against version {version} in production")
    assert refused["production"]["after"] == version


def test_a_rollback_brings_the_better_masks_back(runs, tmp_path):
    root, good, [(_, _, first), _, (code, output, forced)] = runs
    assert code == 0, output
    assert forced["status"] == "pushed"
    done = {step for step, state in states(forced).items() if state == "complete"}
    assert done == {"ReleaseGate", "Pusher"}

    def border_pixels(name: str) -> int:
        asked = [str(good / "images" / "test" / f"test{i}.png") for i in range(6)]
        code, said = warmstart("predict", *asked, f"--root={root}", f"--masks={tmp_path / name}", "--overlays")
        assert code == 0, said
        assert len(list((tmp_path / name).iterdir())) == 12
        masks = [np.array(Image.open(tmp_path / name / f"test{i}.mask.png")) for i in range(6)]
        assert {mask.shape for mask in masks} == {(SIDE, SIDE)}
        return int(sum(np.sum(mask == 2) for mask in masks))

    without = border_pixels("forced")
    code, said = warmstart("rollback", f"--root={root}")
    assert code == 0, said
    assert f"a copy of version {first['production']['after']}" in said
    assert border_pixels("rolled back") > 2 * without
    _, history = warmstart("history", f"--root={root}")
    assert "mean IoU on test" in history


def test_without_a_proven_gain_the_cheaper_model_wins(runs, settings, tmp_path):
    """A first phase that has learnt all, and a second one of no epochs."""
    _, good, _ = runs
    longer = ["feature_extraction.epochs=25", "feature_extraction.learning_rate=0.02", "fine_tuning.epochs=0"]
    more = [f"--set=training.{setting}" for setting in longer]
    code, output, summary = run(good, tmp_path / "root", *settings, *more, config="image_masks")
    assert code == 0, output
    assert summary["winner"] == "feature_extraction"
    assert "fine-tuning changed nothing: it had no epochs" in summary["verdict"]["text"]
    assert "no proven gain" in summary["verdict"]["text"]


def test_a_classifier_in_production_is_replaced_only_by_who_asks_for_it(runs, settings, shaded, small, tmp_path):
    _, good, _ = runs
    root = tmp_path / "root"
    code, output, classifier = run(shaded, root, *small)
    assert code == 0, output
    version = classifier["production"]["after"]
    code, output, refused = run(good, root, *settings, config="image_masks")
    assert code == 3, output
    assert refused["release"]["production"]["state"] == "other_signature"
    [reason] = refused["release"]["refusals"]
    assert "it gives a class for each photo, and the winner one for each pixel" in reason
    assert "set release.incomparable=floors" in reason
    assert refused["production"]["after"] == version
    code, output, pushed = run(good, root, *settings, "--set=release.incomparable=floors", config="image_masks")
    assert code == 0, output
    assert pushed["production"]["after"] != version
    done = {step for step, state in states(pushed).items() if state == "complete"}
    assert "FineTuning" not in done
