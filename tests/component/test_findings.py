"""Findings: everything that a page shows beyond the summary, from what a run left, however little that is."""

from __future__ import annotations

import base64
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import Artifact, artifact_utils, standard_artifacts

from components.evaluator.metrics import evaluate
from components.evaluator.stored_predictions import LABEL_INDEX, PRODUCTION, probabilities_key
from components.example_gen.photo_rules import PhotoRules
from components.records import text
from components.report import findings
from components.report.finding_list import FindingList, SpanOfRun
from components.report.findings import RunOutputs, find, sizes
from components.trainer.loop import HISTORY_FILE
from schemas import features as f
from schemas.json_records import from_json
from schemas.summary import CorrectedPhoto, ModelSummary, RejectedFile
from schemas.verdicts import DriftVerdict, FarPhoto, Neighbour, ServableVerdict

LABELS = ["cat", "dog"]
SPLITS = {"train": range(14), "eval": range(14, 17), "test": range(17, 24)}
INTERVALS = {"confidence": 0.95, "samples": 50, "seed": 1}
PRODUCTION_LABELS = ["bird", "dog", "cat"]
MISLABELLED = 4  # of the drawn photos; its vector is that of a dog


def examples_artifact(folder: Path) -> Artifact:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
    return artifact


def encoded(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


class DrawnRun:
    """Artifacts of a run over 24 drawn photos, and a copy of a training photo, saved again, in the test split."""

    def __init__(self, folder: Path, drawn_photos, make_example, write_records):
        self.folder, self._write = folder, write_records
        textures = np.random.default_rng(8)
        photos = []
        for photo in drawn_photos:  # the drawings are too much alike to be told apart by their hashes
            drawn = Image.open(io.BytesIO(photo.photo_bytes)).convert("RGB").resize((80, 60))
            fields = Image.fromarray(textures.integers(0, 256, (6, 8)).astype(np.uint8)).resize((80, 60))
            pattern = Image.blend(drawn, fields.convert("RGB"), 0.6)
            photos.append(photo._replace(photo_bytes=encoded(pattern, quality=95)))
        copy = photos[0]._replace(
            name="again/cat.0 copy.jpg",
            photo_bytes=encoded(Image.open(io.BytesIO(photos[0].photo_bytes)).resize((64, 48)), quality=60),
        )
        self.rows = [(split, photos[i], i) for split, rows in SPLITS.items() for i in rows] + [("test", copy, 0)]
        self.examples = [(split, make_example(photo), i) for split, photo, i in self.rows]
        self.write()

    def write(self, order: Any = None) -> None:
        """Writes photos, vectors and predictions; `order` shuffles the examples in place."""
        examples = list(self.examples)
        if order is not None:
            order(examples)
        for split in SPLITS:
            its = [(example, i) for its_split, example, i in examples if its_split == split]
            self._write(self.folder / "photos" / f"Split-{split}", [example for example, _ in its])
            vectors = []
            for example, i in its:
                is_dog = (i % 2 == 1) != (i == MISLABELLED)
                values = np.random.default_rng(100 + i).normal(0, 1, 40)
                values[:8] += 3 if is_dog else -3
                views = (1, 0, 2) if split == "train" else (0,)
                vectors += [self._vector(example, values * (-1) ** view, view) for view in views]
            self._write(self.folder / "vectors" / f"Split-{split}", vectors)
            if split != "train":
                self._write(
                    self.folder / "predictions" / f"Split-{split}", [self._answered(example, i) for example, i in its]
                )
                self._write(
                    self.folder / "production" / f"Split-{split}",
                    [self._answered_by_production(example, i) for example, i in its],
                )

    @staticmethod
    def _without_photo(example: tf.train.Example) -> tf.train.Example:
        copy = tf.train.Example.FromString(example.SerializeToString())
        del copy.features.feature[f.IMAGE]
        return copy

    def _vector(self, example: tf.train.Example, values: np.ndarray, view: int) -> tf.train.Example:
        made = self._without_photo(example)
        made.features.feature[f.FEATURE_VECTOR].float_list.value.extend(values)
        made.features.feature[f.VIEW].int64_list.value.append(view)
        return made

    def _answered(self, example: tf.train.Example, i: int) -> tf.train.Example:
        made, true = self._without_photo(example), i % 2
        made.features.feature[LABEL_INDEX].int64_list.value.append(true)
        # Feature extraction is wrong about 18 and 21, surer of 21; fine-tuned about 18 only.
        for model, wrong in (("feature_extraction", {18: 0.7, 21: 0.9}), ("fine_tuned", {18: 0.8})):
            sure = 1 - wrong[i] if i in wrong else 0.95
            made.features.feature[probabilities_key(model)].float_list.value.extend(
                [sure, 1 - sure] if true == 0 else [1 - sure, sure]
            )
        return made

    def _answered_by_production(self, example: tf.train.Example, i: int) -> tf.train.Example:
        """Photo 20 is a bird to it."""
        made, true = self._without_photo(example), i % 2
        made.features.feature[LABEL_INDEX].int64_list.value.append(true)
        of_cat, of_dog = (0.8, 0.1) if true == 0 else (0.1, 0.8)
        probabilities = [0.9, 0.05, 0.05] if i == 20 else [0.1, of_dog, of_cat]
        made.features.feature[probabilities_key(PRODUCTION)].float_list.value.extend(probabilities)
        return made

    def outputs(self, **changes: Any) -> RunOutputs:
        truth = np.array([i % 2 for split, _, i in self.rows if split == "test"])
        measured = from_json(ModelSummary, evaluate(np.eye(2)[truth], truth, LABELS, **INTERVALS))
        given: dict[str, Any] = {
            "photos": examples_artifact(self.folder / "photos"),
            "vectors": examples_artifact(self.folder / "vectors"),
            "predictions": examples_artifact(self.folder / "predictions"),
            "production_predictions": examples_artifact(self.folder / "production"),
            "labels": LABELS,
            "production_labels": PRODUCTION_LABELS,
            "measured": {"feature_extraction": measured, "fine_tuned": measured},
            "intervals": INTERVALS,
            "rules": PhotoRules(max_pixels=1_000_000),
        }
        return RunOutputs(**{**given, **changes})


@pytest.fixture
def drawn_run(tmp_path, drawn_photos, make_example, write_records) -> DrawnRun:
    return DrawnRun(tmp_path / "artifacts", drawn_photos, make_example, write_records)


def shown_photos(found: Any) -> list[dict[str, Any]]:
    """Every photo anywhere in the findings."""
    if isinstance(found, dict):
        if {"name", "label", "split", "thumbnail"} <= found.keys():
            return [found]
        return [photo for value in found.values() for photo in shown_photos(value)]
    return [photo for value in found for photo in shown_photos(value)] if isinstance(found, list) else []


def test_a_run_that_left_nothing_has_no_findings_and_no_problems():
    found = find(RunOutputs(), seed=1)
    assert found == {
        "data": {"sizes": None, "rejected": [], "near_duplicates": None, "suspected_labels": None},
        "training": {},
        "comparison": None,
        "gallery": None,
        "cost": {"nodes": {}, "models": {}},
        "problems": [],
    }


def test_everything_that_a_run_left_is_found(drawn_run):
    found = find(drawn_run.outputs(), seed=1)
    assert found["problems"] == []
    json.dumps(found, allow_nan=False)

    assert sum(found["data"]["sizes"]["counts"]) == 25
    duplicates = found["data"]["near_duplicates"]
    assert (duplicates["looked_at"], duplicates["of"], duplicates["found"]) == (25, 25, 1)
    [pair] = duplicates["pairs"]
    assert {photo["name"] for photo in pair["photos"]} == {"cat.0.jpg", "again/cat.0 copy.jpg"}
    assert {photo["split"] for photo in pair["photos"]} == {"train", "test"}

    suspected = found["data"]["suspected_labels"]
    assert (suspected["looked_at"], suspected["of"], suspected["found"]) == (25, 25, 1)
    [suspect] = suspected["photos"]
    assert suspect["photo"]["name"] == "cat.4.jpg"
    assert (suspect["photo"]["label"], suspect["suggested"]) == ("cat", "dog")
    assert suspect["probability"] > 0.6 > 0.4 > suspect["probability_of_label"]

    photos = shown_photos(found)
    assert len(photos) > 8
    for photo in photos:
        picture = Image.open(io.BytesIO(base64.b64decode(photo["thumbnail"].removeprefix("data:image/jpeg;base64,"))))
        assert picture.format == "JPEG"
        assert max(picture.size) <= 160


def hash_of(drawn_run: DrawnRun, name: str) -> str:
    return next(text(one, f.CONTENT_HASH) for _, one, _ in drawn_run.examples if text(one, f.FILE_NAME) == name)


def test_every_finding_is_listed_with_its_place(drawn_run):
    far = hash_of(drawn_run, "dog.5.jpg")
    near = Neighbour(file_name="dog.1.jpg", label="dog", content_hash="1" * 64, distance=0.8)
    drift = DriftVerdict(
        text="", action="go", far_photos_found=3,
        far_photos=[FarPhoto(file_name="dog.5.jpg", label="dog", content_hash=far, distance=0.8, neighbours=[near])],
    )  # fmt: skip
    rejected = [
        RejectedFile(dataset="cats_vs_dogs", file_name="x.jpg", reason="empty", detail="x.jpg is empty.", label="cat"),
        RejectedFile(
            dataset="cats_vs_dogs", file_name="y.jpg", reason="contradictory_label", label="dog", content_hash="2" * 64
        ),
    ]
    listed = FindingList()
    outputs = drawn_run.outputs(
        winner="feature_extraction", drift=drift, rejected=rejected, span=SpanOfRun(20_000, True), abstain_below=0.96
    )
    assert find(outputs, 1, listed)["problems"] == []
    every = listed.findings("a run", LABELS)
    assert every.labels == LABELS
    assert every.counts == {
        "contradictory_label": 1, "suspected_label": 1, "mistake": 2, "low_confidence": 6, "near_duplicate": 1,
        "far_photo": 3, "rejected": 1, "suspected_mask": 0,
    }  # fmt: skip
    assert {(one.dataset, one.span) for one in every.findings} == {("cats_vs_dogs", "2024-10-04")}
    assert all(one.detail.endswith(".") for one in every.findings if one.path != "y.jpg")
    by_kind = {one.kind: one for one in reversed(every.findings)}
    suspect, mistake = by_kind["suspected_label"], by_kind["mistake"]
    assert (suspect.path, suspect.label, suspect.proposal, suspect.split) == ("cat.4.jpg", "cat", "dog", "train")
    assert suspect.content_hash == hash_of(drawn_run, "cat.4.jpg")
    assert suspect.probability > 0.6
    assert (mistake.path, mistake.label, mistake.proposal, mistake.split) == ("dog.21.jpg", "dog", "cat", "test")
    assert mistake.detail == "dog.21.jpg is labelled 'dog', but feature extraction answers 'cat' (90%)."
    pair = by_kind["near_duplicate"]
    assert (pair.path, pair.split, pair.proposal) == ("cat.0.jpg", "train", "")
    assert "looks like again/cat.0 copy.jpg (test), by feature vector: 0.00 apart." in pair.detail
    assert (by_kind["far_photo"].content_hash, by_kind["far_photo"].split) == (far, "train")
    assert (by_kind["rejected"].reason, by_kind["rejected"].content_hash) == ("empty", "")
    assert by_kind["contradictory_label"].content_hash == "2" * 64


def test_a_confirmed_label_is_not_suspected_again(drawn_run):
    listed = FindingList()
    found = find(drawn_run.outputs(confirmed={hash_of(drawn_run, "cat.4.jpg")}), 1, listed)
    assert found["data"]["suspected_labels"]["found"] == 0
    assert listed.findings("a run", LABELS).counts["suspected_label"] == 0


def test_the_gallery_has_the_winners_answers_with_pictures(drawn_run):
    found = find(drawn_run.outputs(), seed=1)["gallery"]
    assert (found["model"], found["of"], found["wrong"]) == ("fine_tuned", 8, 1)
    assert [one["wrong"] for one in found["photos"]] == [True] + [False] * 7
    assert {one["photo"]["split"] for one in found["photos"]} == {"test"}
    assert all(one["photo"]["thumbnail"].startswith("data:image/jpeg;base64,") for one in found["photos"])


def test_models_are_compared_on_the_same_photos(drawn_run):
    comparison = find(drawn_run.outputs(), seed=1)["comparison"]
    models = ["feature_extraction", "fine_tuned", "production"]
    assert (comparison["labels"], comparison["split"], comparison["models"]) == (LABELS, "test", models)
    # Photos 17 to 23 and the copy: cats are 18, 20, 22 and the copy.
    assert comparison["confusion"] == {
        "feature_extraction": [[3, 1], [1, 3]],
        "fine_tuned": [[3, 1], [0, 4]],
        "production": [[3, 0], [0, 4]],  # the bird is in no column
    }
    assert comparison["confused_pairs"]["production"] == [{"true": "cat", "predicted": "bird", "count": 1}]
    assert comparison["confused_pairs"]["fine_tuned"] == [{"true": "cat", "predicted": "dog", "count": 1}]
    worst = comparison["worst"]
    assert [row["photo"]["name"] for row in worst["feature_extraction"]] == ["dog.21.jpg", "cat.18.jpg"]
    assert worst["feature_extraction"][0]["predicted"] == "cat"
    assert worst["feature_extraction"][0]["probability"] == pytest.approx(0.9)
    assert worst["feature_extraction"][0]["heat_map"] is None
    disagreements = comparison["disagreements"]
    assert disagreements["found"] == 3
    assert {row["photo"]["name"] for row in disagreements["photos"]} == {"cat.18.jpg", "cat.20.jpg", "dog.21.jpg"}
    by_name = {row["photo"]["name"]: row["answers"] for row in disagreements["photos"]}
    assert {model: answer["label"] for model, answer in by_name["cat.20.jpg"].items()} == {
        "feature_extraction": "cat", "fine_tuned": "cat", "production": "bird",
    }  # fmt: skip
    assert comparison["metrics"]["production"]["accuracy"]["value"] == pytest.approx(7 / 8)
    assert set(comparison["metrics"]["fine_tuned"]) == {"accuracy", "loss", "calibration_error"}
    curve = comparison["reliability"]["feature_extraction"]
    assert curve["edges"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert sum(curve["count"]) == 8
    assert curve["count"][9] in (6, 7)  # 0.9 as a float32 lies on either side of the edge
    assert [value is None for value in curve["accuracy"]] == [count == 0 for count in curve["count"]]


def test_photos_of_classes_that_production_does_not_know_are_not_held_against_it(drawn_run):
    outputs = drawn_run.outputs(production_labels=["bird", "dog", "horse"])
    comparison = find(outputs, seed=1)["comparison"]
    assert comparison["metrics"]["production"]["accuracy"]["value"] == 1.0
    assert comparison["confusion"]["production"] == [[0, 0], [0, 4]]
    assert comparison["confused_pairs"]["production"] == []
    assert comparison["worst"]["production"] == []


def test_the_order_of_the_examples_changes_nothing(drawn_run):
    before = find(drawn_run.outputs(), seed=1)
    drawn_run.write(order=random.Random(2).shuffle)
    assert find(drawn_run.outputs(), seed=1) == before


def test_of_many_photos_some_are_looked_at_and_it_is_said(drawn_run, monkeypatch):
    monkeypatch.setattr(findings, "MOST_COMPARED", 14)
    monkeypatch.setattr(findings, "MOST_JUDGED", 10)
    before = find(drawn_run.outputs(), seed=1)
    assert before["problems"] == []
    assert 4 <= before["data"]["near_duplicates"]["looked_at"] <= 14
    assert before["data"]["near_duplicates"]["of"] == 25
    assert before["data"]["suspected_labels"]["looked_at"] <= 10
    assert before["data"]["suspected_labels"]["of"] == 25
    assert sum(before["data"]["sizes"]["counts"]) == 25
    drawn_run.write(order=random.Random(3).shuffle)
    assert find(drawn_run.outputs(), seed=1) == before


@pytest.mark.parametrize("what", ["photos", "vectors", "predictions", "production"])
def test_a_part_that_cannot_be_read_is_told_and_the_others_are_found(drawn_run, what):
    whole = find(drawn_run.outputs(), seed=1)
    for file in (drawn_run.folder / what).rglob("*.gz"):
        file.write_bytes(b"damaged")
    found = find(drawn_run.outputs(), seed=1)
    assert found["problems"]
    assert all(" could not be shown: " in problem for problem in found["problems"])
    if what in ("photos", "vectors"):
        assert found["comparison"]["confusion"] == whole["comparison"]["confusion"]
    else:
        assert found["data"] == whole["data"]
        assert found["comparison"] is None
    if what == "vectors":
        assert found["data"]["suspected_labels"] is None
        assert found["data"]["near_duplicates"]["found"] >= 1
    if what == "photos":
        assert found["data"]["suspected_labels"]["found"] == 1
        assert {photo["thumbnail"] for photo in shown_photos(found)} == {None}


def test_a_run_stopped_after_its_photos_were_read_shows_them(drawn_run):
    shutil.rmtree(drawn_run.folder / "vectors")
    found = find(RunOutputs(photos=drawn_run.outputs().photos), seed=1)
    assert found["problems"] == []
    assert found["comparison"] is None
    assert found["data"]["suspected_labels"] is None
    assert found["data"]["near_duplicates"]["found"] >= 1
    assert sum(found["data"]["sizes"]["counts"]) == 25


def test_photos_of_an_older_version_have_no_hash_and_are_compared_by_their_vectors(drawn_run):
    for _, example, _ in drawn_run.examples:
        del example.features.feature[f.PERCEPTUAL_HASH]
    drawn_run.write()
    found = find(drawn_run.outputs(), seed=1)
    assert found["problems"] == []
    [pair] = found["data"]["near_duplicates"]["pairs"]
    assert pair["method"] == "feature vector"


def test_histories_are_given_as_they_are(tmp_path):
    history = {"epochs": [{"train_loss": 0.5}], "best_epoch": 1}
    (tmp_path / HISTORY_FILE).write_text(json.dumps(history))
    found = find(RunOutputs(histories={"feature_extraction": str(tmp_path), "fine_tuned": str(tmp_path / "gone")}), 1)
    assert found["training"] == {"feature_extraction": history, "fine_tuned": None}
    [problem] = found["problems"]
    assert problem.startswith("the learning curves of fine-tuned could not be shown: ")


def test_rejected_files_take_turns_by_their_reasons(tmp_path, drawn_photos):
    photo = next(each for each in drawn_photos if each.image_format == "JPEG")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "small.jpg").write_bytes(photo.photo_bytes)
    names = [("cat/small.jpg", "too_small")] + [(f"cat/{i}.txt", "not_a_photo") for i in range(80)]
    rejected = [
        RejectedFile(dataset="cats_vs_dogs", file_name=name, reason=reason, detail=f"{name} is {reason}")
        for name, reason in reversed(names)
    ]
    outputs = RunOutputs(
        rejected=rejected, sources={"cats_vs_dogs": str(tmp_path)}, rules=PhotoRules(max_pixels=1_000_000)
    )
    shown = find(outputs, seed=1)["data"]["rejected"]
    assert len(shown) == findings.MOST_REJECTED
    [small] = [file for file in shown if file["reason"] == "too_small"]
    assert small["thumbnail"].startswith("data:image/jpeg;base64,")
    assert small["detail"] == "cat/small.jpg is too_small"
    assert {file["thumbnail"] for file in shown if file is not small} == {None}
    without_source = find(RunOutputs(rejected=rejected), seed=1)["data"]["rejected"]
    assert {file["thumbnail"] for file in without_source} == {None}


def test_models_have_a_size_and_the_winner_a_latency(tmp_path):
    for model, bytes_of_it in (("one", 1_500_000), ("other", 500_000)):
        (tmp_path / model / "variables").mkdir(parents=True)
        (tmp_path / model / "variables" / "data").write_bytes(b"\0" * bytes_of_it)
    outputs = RunOutputs(
        models={"feature_extraction": str(tmp_path / "one"), "fine_tuned": str(tmp_path / "other")},
        winner="fine_tuned",
        servable=ServableVerdict(servable=True, text="", latency_milliseconds=9.5),
        peaks={"Trainer": 812.5, "Pusher": None},
    )
    assert find(outputs, seed=1)["cost"] == {
        "nodes": {"Trainer": {"peak_megabytes": 812.5}, "Pusher": {"peak_megabytes": None}},
        "models": {
            "feature_extraction": {"megabytes": 1.5, "latency_milliseconds": None},
            "fine_tuned": {"megabytes": 0.5, "latency_milliseconds": 9.5},
        },
    }


@pytest.mark.parametrize("sides", [{300: 4}, {1: 1, 2: 5}, {160: 3, 224: 9, 480: 2}, {16: 1, 12_000: 1, 500: 70}])
def test_a_histogram_has_every_photo_between_its_edges(sides):
    histogram = sizes(sides)
    edges, counts = histogram["edges"], histogram["counts"]
    assert len(edges) == len(counts) + 1 <= 27
    assert len(set(np.diff(edges))) == 1
    assert edges[0] <= min(sides) < edges[1]
    assert edges[-2] <= max(sides) < edges[-1]
    spread = [side for side, photos in sides.items() for _ in range(photos)]
    assert counts == np.histogram(spread, [*edges[:-1], edges[-1] - 0.5])[0].tolist()


def test_no_photos_have_no_histogram():
    assert sizes({}) == {"edges": [], "counts": []}


def test_the_winner_s_worst_mistakes_have_heat_maps(drawn_run, exported_model):
    found = find(drawn_run.outputs(models={"fine_tuned": exported_model}, winner="fine_tuned"), seed=1)
    assert found["problems"] == []
    worst = found["comparison"]["worst"]
    assert worst["fine_tuned"]
    for mistake in worst["fine_tuned"]:
        heat = base64.b64decode(mistake["heat_map"].removeprefix("data:image/jpeg;base64,"))
        photo = base64.b64decode(mistake["photo"]["thumbnail"].removeprefix("data:image/jpeg;base64,"))
        assert Image.open(io.BytesIO(heat)).size == Image.open(io.BytesIO(photo)).size
        assert heat != photo
        assert mistake["heat_map_method"] == "Grad-CAM"
    assert all(mistake["heat_map"] is None for mistake in worst["feature_extraction"])


def test_a_model_that_cannot_be_loaded_costs_the_heat_maps_alone(drawn_run, tmp_path):
    found = find(drawn_run.outputs(models={"fine_tuned": str(tmp_path)}, winner="fine_tuned"), seed=1)
    [problem] = found["problems"]
    assert problem.startswith("the heat maps of the worst mistakes could not be shown: BadInput")
    worst = found["comparison"]["worst"]["fine_tuned"]
    assert [mistake["heat_map"] for mistake in worst] == [None] * len(worst)
    assert all(mistake["photo"]["thumbnail"] for mistake in worst)


def test_corrected_photos_have_the_winner_s_answer_of_now(drawn_run, exported_model):
    def corrected(name: str, new_label: str, split: str = "train") -> CorrectedPhoto:
        key = hash_of(drawn_run, name) if new_label else "0" * 64
        return CorrectedPhoto(
            file_name=name, content_hash=key, split=split, old_label="cat", new_label=new_label, who="ann"
        )

    of_run = [corrected("dog.1.jpg", "dog"), corrected("gone.jpg", ""), corrected("cat.20.jpg", "cat", "test")]
    found = find(
        drawn_run.outputs(models={"fine_tuned": exported_model}, winner="fine_tuned", corrected=of_run), seed=1
    )
    assert found["problems"] == []
    dog, gone, cat = found["corrected"]
    assert {dog.answer, cat.answer} <= {"cat", "dog"}
    assert 0.5 <= dog.probability <= 1
    assert (gone.answer, gone.probability) == (None, None)
    shown = found["data"]["corrected"]
    assert [(one["photo"]["name"], one["answer"], one["who"]) for one in shown] == [
        ("dog.1.jpg", dog.answer, "ann"), ("gone.jpg", None, "ann"), ("cat.20.jpg", cat.answer, "ann"),
    ]  # fmt: skip
    assert [one["photo"]["thumbnail"] is not None for one in shown] == [True, False, True]

    without = find(drawn_run.outputs(corrected=of_run), seed=1)
    assert (without["problems"], without["corrected"]) == ([], of_run)
