"""What the page of a run of masks shows: the right photos, drawn with the truth and what each model answers."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from tfx.types import artifact_utils, standard_artifacts

from components.evaluator.stored_answers import read_answers
from components.evaluator.stored_masks import png_ids
from components.evaluator.stored_predictions import FEATURE_EXTRACTION, FINE_TUNED, PRODUCTION
from components.overlays.drawing import overlay
from components.report.finding_list import FindingList
from components.report.findings import RunOutputs, find
from schemas import features as f
from tests.masks import damaged, mask_prediction

LABELS = ["pet", "background", "border"]
SPLITS = {"eval": range(6), "test": range(6, 24)}
WON, LOST, SUSPECTED = 8, 9, 3


def wrong(share: float) -> dict[int, tuple[int, float]]:
    return {0: (1, share), 2: (1, share)}


@pytest.fixture
def run(tmp_path, drawn_photos, drawn_mask, make_example, write_records) -> RunOutputs:
    """Fine-tuning mends photo 8 and spoils photo 9; the mask of photo 3 is nothing like what the models see."""
    artifacts = {}
    for name, models in (("predictions", (FEATURE_EXTRACTION, FINE_TUNED)), ("production", (PRODUCTION,))):
        artifacts[name] = standard_artifacts.Examples()
        artifacts[name].uri = str(tmp_path / name)
        artifacts[name].split_names = artifact_utils.encode_split_names(list(SPLITS))
        for split, rows in SPLITS.items():
            written = []
            for row in rows:
                true = png_ids(drawn_mask(drawn_photos[row]))
                shares = {FEATURE_EXTRACTION: 0.3, FINE_TUNED: 0.28, PRODUCTION: 0.5}
                shares |= {WON: {FINE_TUNED: 0.0}, LOST: {FINE_TUNED: 0.9}}.get(row, {})
                answers = {model: damaged(true, wrong(shares[model]), row) for model in models}
                example = mask_prediction(
                    row, true, answers, losses=dict.fromkeys(models, 4.0 if row == SUSPECTED else 0.2 + row / 100)
                )
                key = make_example(drawn_photos[row]).features.feature[f.CONTENT_HASH].bytes_list.value
                example.features.feature[f.CONTENT_HASH].bytes_list.value[:] = key
                written.append(example)
            write_records(tmp_path / name / f"Split-{split}", written)
    artifacts["photos"] = standard_artifacts.Examples()
    artifacts["photos"].uri = str(tmp_path / "photos")
    artifacts["photos"].split_names = artifact_utils.encode_split_names(list(SPLITS))
    for split, rows in SPLITS.items():
        examples = []
        for row in rows:
            examples.append(make_example(drawn_photos[row]))
            examples[-1].features.feature[f.MASK].bytes_list.value.append(drawn_mask(drawn_photos[row]))
        write_records(tmp_path / "photos" / f"Split-{split}", examples)
    return RunOutputs(
        photos=artifacts["photos"],
        of_masks=True,
        predictions=artifacts["predictions"],
        production_predictions=artifacts["production"],
        labels=LABELS,
        intervals={"confidence": 0.95, "samples": 200, "seed": 1},
        winner=FINE_TUNED,
    )


def test_the_right_photos_are_shown_with_all_their_pictures(run, drawn_photos, drawn_mask):
    found = find(run, 1)
    assert found["problems"] == []
    assert found["comparison"] is None
    assert found["data"]["suspected_labels"] is None
    masks = found["masks"]
    assert masks["models"] == [FEATURE_EXTRACTION, FINE_TUNED]
    shown = masks["shown"]
    assert shown["won"][0]["photo"]["name"] == f"{WON}.jpg"
    assert "100.0 % after" in shown["won"][0]["said"]
    assert shown["lost"][0]["photo"]["name"] == f"{LOST}.jpg"
    assert shown["worst"][0]["photo"]["name"] == f"{LOST}.jpg"
    assert shown["worst"][0]["said"].endswith("% with fine-tuned")
    assert masks["suspects"] == 1
    [suspect] = shown["suspected"]
    assert (suspect["photo"]["name"], suspect["photo"]["split"]) == (f"{SUSPECTED}.jpg", "eval")
    for entries in shown.values():
        for one in entries:
            assert one["photo"]["thumbnail"].startswith("data:image/jpeg;base64,")
            titles = [drawn["title"] for drawn in one["pictures"]]
            assert titles == ["truth", "feature extraction", "fine-tuned", "mistakes of fine-tuned"]
    gallery = masks["gallery"]
    assert (gallery["model"], gallery["of"]) == (FINE_TUNED, len(SPLITS["test"]))
    assert gallery["photos"][0]["photo"]["name"] == f"{LOST}.jpg"
    assert gallery["photos"][-1]["photo"]["name"] == f"{WON}.jpg"
    assert [one["low"] for one in gallery["photos"]] == sorted((one["low"] for one in gallery["photos"]), reverse=True)
    for one in gallery["photos"]:
        assert one["classes"] == [label for label in LABELS if label in one["classes"]]
        assert [drawn["title"] for drawn in one["pictures"]] == ["truth", "fine-tuned"]
    truth = Image.open(io.BytesIO(base64.b64decode(shown["won"][0]["pictures"][0]["uri"].partition(",")[2])))
    photo = Image.open(io.BytesIO(drawn_photos[WON].photo_bytes)).convert("RGB")
    expected = overlay(photo, png_ids(drawn_mask(drawn_photos[WON])), LABELS)
    assert truth.size == expected.size
    assert np.abs(np.asarray(truth, float) - np.asarray(expected, float)).mean() < 15


def test_a_suspected_mask_is_in_the_list_until_somebody_confirms_the_photo(run):
    from dataclasses import replace

    listed = FindingList()
    find(run, 1, listed)
    found = listed.findings("run", LABELS)
    assert found.counts["suspected_mask"] == 1
    [one] = [finding for finding in found.findings if finding.kind == "suspected_mask"]
    assert (one.path, one.split, one.dataset, one.proposal) == (f"{SUSPECTED}.jpg", "eval", "cats_vs_dogs", "")
    assert one.detail.startswith(
        f"the mask of {SUSPECTED}.jpg is far from what every model answers: feature extraction gives "
    )
    assert one.detail.endswith("of its pixels another class, most of them 'background' in place of 'pet'.")

    again = FindingList()
    masks = find(replace(run, confirmed={one.content_hash}), 1, again)["masks"]
    assert masks["suspects"] == 0
    assert again.findings("run", LABELS).counts["suspected_mask"] == 0


def test_the_numbers_beside_them_are_those_of_the_answers(run):
    masks = find(run, 1)["masks"]
    stored = read_answers(run.predictions, "test")
    photos = len(SPLITS["test"])
    assert [sum(counts) for counts in masks["histogram"]["counts"].values()] == [photos, photos]
    assert masks["production"]["mean_iou"]["value"] < stored.measure.value(stored.scores(FEATURE_EXTRACTION))
    assert list(masks["conventions"]) == ["border counted as pet", "border not counted"]
    assert list(masks["conventions"]["border not counted"]) == [FEATURE_EXTRACTION, FINE_TUNED, PRODUCTION]
    assert masks["legend"][0] == ("pet", "#e69f00", "orange")


def test_without_production_or_photos_the_rest_is_found(run):
    from dataclasses import replace

    found = find(replace(run, production_predictions=None, photos=None, winner=None), 1)
    assert found["problems"] == []
    assert found["masks"]["production"] is None
    assert found["masks"]["worst_of"] == FEATURE_EXTRACTION
    assert all(one["pictures"] == [] for one in found["masks"]["shown"]["worst"])
    assert find(replace(run, predictions=None), 1)["masks"] is None
