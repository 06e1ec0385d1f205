"""The card of a pushed model: Hugging Face's format, and the numbers of the run."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml

from components.report.model_card import model_card
from components.serving_folder.files import model_identity
from components.serving_folder.folder import ServingFolder
from deploy import run_summary
from schemas.json_records import from_json
from schemas.release import Release
from schemas.summary import Summary
from tests.mask_runs import TRIMAP, mask_run
from tests.report_runs import HOSTILE, whole_run

CONFIG = {
    "name": "cats_vs_dogs",
    "task": {"kind": "classification"},
    "image": {"size": 224, "resize_method": "bilinear", "antialias": False, "background": "#ffffff"},
    "backbone": {"handle": "efficientnet_lite0"},
    "selection": {"confidence": 0.9},
    "serving": {"abstain_below": 0.8},
    "release": {"license": "apache-2.0"},
    "training": {"seed": 42, "fine_tuning": {"epochs": 5, "unfreeze": None}},
    "data": {"span": 3},
}
VERSION = 1796113598


def card_of(summary: dict[str, Any], **config: Any) -> tuple[dict[str, Any], str]:
    """The card's YAML and its Markdown."""
    text = model_card(from_json(Summary, {**summary, "config": {**CONFIG, **config}}), VERSION)
    beginning, front_matter, markdown = text.split("---\n", 2)
    assert beginning == ""
    return yaml.safe_load(front_matter), markdown


@pytest.fixture(scope="module")
def classified() -> dict[str, Any]:
    summary, _ = whole_run(["cat", "dog"])
    return summary


def test_the_front_matter_is_what_hugging_face_reads(classified):
    found, _ = card_of(classified)
    assert found["license"] == "apache-2.0"
    assert found["pipeline_tag"] == "image-classification"
    assert (found["library_name"], found["tags"][0]) == ("warmstart", "warmstart")
    [model] = found["model-index"]
    assert model["name"] == "cats_vs_dogs"
    [result] = model["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"type": "cats_vs_dogs", "name": "cats_vs_dogs", "split": "test"}
    winner = classified["models"][classified["winner"]]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {
        "accuracy": pytest.approx(winner["accuracy"]["value"], abs=1e-6),
        "expected_calibration_error": pytest.approx(winner["calibration_error"]["value"], abs=1e-6),
    }


def test_the_numbers_are_those_of_the_run(classified):
    _, text = card_of(classified)
    assert f"# cats_vs_dogs, version {VERSION}" in text
    for split, photos in classified["data"]["accepted"].items():
        counts = classified["data"]["classes"][split]
        [row] = [line for line in text.splitlines() if line.startswith(f"| {split} |")]
        assert f"| {photos:,} | cat {counts['cat']:,}, dog {counts['dog']:,} |" in row
    assert "| accuracy | 90.7% | 80.7% to 100.0% |" in text
    assert "| log loss (nats) | 0.157 | 0.100 to 0.200 |" in text
    assert "with 90% intervals" in text
    for part in ("verdict", "release", "servable"):
        words = re.findall(r"[^\W_]+", classified[part]["text"])
        assert all(word in text for word in words), part
    assert "resizes them to 224 × 224 pixels (bilinear)" in text
    assert "`abstains` is true where the probability is below 0.8" in text
    assert "The backbone is efficientnet_lite0, with weights of ImageNet." in text
    assert "The backbone's weights: Apache" in text
    assert "3 files were rejected: 1 empty, 2 truncated." in text
    assert "| tensorflow | 2.16.2 |" in text


def test_an_unknown_licence_is_said_to_be_unknown(classified):
    found, text = card_of(classified, release={})
    assert found["license"] == "unknown"
    assert "\nNot stated." in text
    assert "apache-2.0" not in text


def test_the_limits_are_those_of_the_numbers(classified):
    summary = copy.deepcopy(classified)
    summary["release"] |= {
        "undecided": "54 photos are too few to tell 90.7% from 90.0%",
        "forced": "the customer waits",
        "look_alikes": {"photos": 5, "others": 49, "accuracy_of_others": 0.9},
    }
    whole = {"value": 0.9, "low": 0.85, "high": 0.95}
    weak, even = {"value": 0.6, "low": 0.5, "high": 0.7}, whole
    summary["models"][summary["winner"]] |= {
        "accuracy": whole,
        "slices": {
            "label": {
                "cat": {"examples": 30, "accuracy": weak, "enough": True},
                "dog": {"examples": 24, "accuracy": even, "enough": True},
            },
            "image_format": {"WebP": {"examples": 3, "accuracy": weak, "enough": False}},
        },
    }
    _, text = card_of(summary)
    limits = text.partition("## Limits")[2].partition("## ")[0]
    for said in (
        "54 photos are too few to tell 90.7% from 90.0%.",
        "pushed by force: the customer waits.",
        "5 of the test photos look like photos that it was trained on.",
        "Too few test photos to say anything: image format WebP (3).",
        "weaker than on the whole with label cat: 60.0% of 30 photos.",
    ):
        assert said in limits
    assert "label dog" not in limits


def test_masks_are_told_in_their_own_words():
    summary, _ = mask_run(TRIMAP)
    found, text = card_of(summary, name="oxford_iiit_pet_masks", task={"kind": "segmentation"})
    assert found["pipeline_tag"] == "image-segmentation"
    measured = {metric["type"]: metric["value"] for metric in found["model-index"][0]["results"][0]["metrics"]}
    assert measured["mean_iou"] == pytest.approx(0.734)
    assert "gives each pixel of a photo one of 3 classes: border, background, pet." in text
    assert "| mean IoU | 73.4% |" in text
    assert "| accuracy of a pixel | 88.4% |" in text
    assert "| class | photos | IoU | precision | recall |" in text
    pixels = summary["data"]["pixel_classes"]["test"]
    share = pixels["pet"]["pixels"] / sum(each["pixels"] for each in pixels.values())
    [row] = [line for line in text.splitlines() if line.startswith("| test |")]
    assert f"pet {share:.1%}" in row
    assert "--masks masks" in text
    assert "mask_png_bytes" in text
    assert "abstains" not in text


def test_names_of_classes_have_no_meaning_of_their_own():
    summary, _ = whole_run([*HOSTILE, "a | b", "two\nlines", "`code`"])
    found, text = card_of(summary)
    assert found["model-index"][0]["name"] == "cats_vs_dogs"
    assert re.findall(r"(?<!\\)<[a-z/!]", text) == []
    assert "two lines" in text
    assert "\\`code\\`" in text
    classes = [line for line in text.splitlines() if re.match(r"\| .* \| 3 \|", line)]
    assert len(classes) == len(HOSTILE) + 3
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in classes} == {6}


def test_many_classes_are_not_all_listed():
    labels = [f"breed {i:03}" for i in range(150)]
    summary, _ = whole_run(labels)
    _, text = card_of(summary)
    assert "150 classes: breed 000, " in text
    assert "and 90 more" in text
    assert len([line for line in text.splitlines() if re.match(r"\| breed \d+ \|", line)]) == 60


@pytest.fixture
def pushed(tmp_path, classified) -> tuple[ServingFolder, dict[str, Any]]:
    """A serving folder with a version of the run, and its summary."""
    serving, model = ServingFolder(tmp_path / "serving"), tmp_path / "model"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"graph")
    serving.push(model, model_identity(model), Release(), None, classified["run_id"])
    production = {"before": None, "after": "7", "folder": str(serving.folder)}
    return serving, {**classified, "config": CONFIG, "production": production}


def test_the_card_lies_beside_the_sealed_version(pushed, tmp_path):
    serving, summary = pushed
    before = serving.versions()
    [version] = before
    report = tmp_path / "report"
    report.mkdir()
    run_summary.write_results(from_json(Summary, summary), report)
    card = tmp_path / "serving-manifests" / str(version) / "README.md"
    assert serving.card_file(version) == card
    assert f"version {version}\n" in card.read_text(encoding="utf-8")
    assert serving.standing().problem == ""
    assert serving.versions() == before
    assert [past.version for past in serving.history()] == before
    assert sorted(path.name for path in card.parent.iterdir()) == ["README.md"]


@pytest.mark.parametrize("change", [{"run_id": "another"}, {"models": None}, {"winner": None}])
def test_a_run_that_pushed_nothing_writes_none(pushed, tmp_path, change):
    serving, summary = pushed
    run_summary.write_results(from_json(Summary, {**summary, **change}), tmp_path)
    assert not serving.card_file(serving.versions()[0]).exists()


def test_a_card_that_cannot_be_written_fails_no_run(pushed, tmp_path, capfd):
    serving, summary = pushed
    serving.card_file(serving.versions()[0]).parent.write_text("in the way")
    assert run_summary.write_results(from_json(Summary, summary), tmp_path).status == "pushed"
    assert (tmp_path / "index.html").is_file()
    assert "FileExistsError" in capfd.readouterr().err
