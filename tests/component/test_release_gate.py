"""ReleaseGate: floors, no loss against production on the same test photos, and a stated path for everything else."""

import json
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.artifacts import IngestReport, Verdict
from components.evaluator.stored_predictions import (
    ENSEMBLE,
    FEATURE_EXTRACTION,
    FINE_TUNED,
    LABEL_INDEX,
    PRODUCTION,
    probabilities_key,
)
from components.release_gate.component import ReleaseGate
from components.release_gate.decision import COMPARABLE, NONE, OTHER_LABELS, OTHER_SIGNATURE, SAME, UNREADABLE
from components.release_gate.look_alikes import find_look_alikes
from components.verdict import RELEASE_FILE, write_verdict
from pipeline.config import ReleaseConfig
from schemas import features as f
from schemas import schema_files
from schemas.json_records import from_json
from schemas.verdicts import ProductionStanding
from tests.verdicts import selection_of, verdict_in

LABELS = ("cat", "dog")
EXAMPLES = 200  # the first half cats


def prediction(row, right, label, answered):
    """A stored prediction of photo `row`; `right` says of each model whether it answers the label."""
    example = tf.train.Example()
    feature = example.features.feature
    for name, value in (
        (f.CONTENT_HASH, f"{row:064d}"),
        (f.FILE_NAME, f"{row}.jpg"),
        (f.LABEL, label),
        (f.DATASET, "oxford_iiit_pet" if row % 4 == 0 else "cats_vs_dogs"),
        (f.IMAGE_FORMAT, "PNG" if row < 10 else "JPEG"),
    ):
        feature[name].bytes_list.value.append(value.encode())
    feature[LABEL_INDEX].int64_list.value.append(LABELS.index(label) if label in LABELS else 0)
    for model, is_right in right.items():
        classes = answered.get(model, LABELS)
        index = classes.index(label) if label in classes else 0
        if not is_right:
            index = (index + 1) % len(classes)
        probabilities = [0.2 / (len(classes) - 1)] * len(classes)
        probabilities[index] = 0.8
        feature[probabilities_key(model)].float_list.value.extend(probabilities)
    return example


def look(content_hash, vector, perceptual_hash="", view=0):
    """What FeatureVectorGen stores of a photo, as far as photos are compared by it."""
    example = tf.train.Example()
    feature = example.features.feature
    feature[f.CONTENT_HASH].bytes_list.value.append(content_hash.encode())
    feature[f.PERCEPTUAL_HASH].bytes_list.value.append(perceptual_hash.encode())
    feature[f.FEATURE_VECTOR].float_list.value.extend(vector)
    if view:
        feature[f.VIEW].int64_list.value.append(view)
    return example


@pytest.fixture
def gate(tmp_path, write_records, curated_schema):
    """Runs the component. Models are right about the rows given; production's labels may be others."""

    def run(
        winner_right,
        production_right=None,
        state=None,
        production_labels=LABELS,
        further_right=None,
        winner=FINE_TUNED,
        force_push="",
        further_minimum_accuracy=None,
        minimum_slice_examples=20,
        look_alikes=(),
        dogs=EXAMPLES // 2,
        **release,
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        label = [LABELS[row >= EXAMPLES - dogs] for row in range(EXAMPLES)]

        def artifact(kind, name, splits=None):
            made = kind()
            made.uri = str(folder / name)
            (folder / name).mkdir(parents=True)
            if splits is not None:
                made.split_names = artifact_utils.encode_split_names(splits)
            return made

        predictions = artifact(standard_artifacts.Examples, "predictions", ["eval", "test"])
        # The other candidates, and the eval split, would turn every verdict round.
        for split, turned in (("test", False), ("eval", True)):
            rows = [
                prediction(
                    row,
                    {
                        model: (row in winner_right) != (turned or model != winner)
                        for model in (FEATURE_EXTRACTION, FINE_TUNED, ENSEMBLE)
                    },
                    label[row],
                    {},
                )
                for row in range(EXAMPLES)
            ]
            write_records(folder / "predictions" / f"Split-{split}", rows)
        answers = artifact(standard_artifacts.Examples, "production", ["test"])
        standing = artifact(Verdict, "standing")
        if state is None:
            state = NONE if production_right is None else COMPARABLE
        found = {"state": state, "text": f"production is {state}", "version": None if state == NONE else 7}
        if state == COMPARABLE:
            found["labels"] = list(production_labels)
            rows = [
                prediction(row, {PRODUCTION: row in production_right}, label[row], {PRODUCTION: production_labels})
                for row in range(EXAMPLES)
            ]
            write_records(folder / "production" / "Split-test", rows)
        write_verdict(standing.uri, from_json(ProductionStanding, found))
        selection = artifact(Verdict, "selection")
        write_verdict(selection.uri, selection_of(winner))
        ingest_report = artifact(IngestReport, "ingest_report")
        (folder / "ingest_report" / "report.json").write_text(json.dumps({"data_fingerprint": "abc"}))
        schema = artifact(standard_artifacts.Schema, "schema")
        (folder / "schema" / schema_files.SCHEMA_FILE).write_text(Path(curated_schema).read_text())
        vectors = artifact(standard_artifacts.Examples, "vectors", ["train", "eval", "test"])
        seen = np.random.default_rng(1).normal(0, 1, (EXAMPLES, 64))
        write_records(
            folder / "vectors" / "Split-test", [look(f"{row:064d}", vector) for row, vector in enumerate(seen)]
        )
        write_records(
            folder / "vectors" / "Split-train",
            [look("a" * 64, -seen[0]), *(look(f"{i:064x}", seen[row] * 1.01) for i, row in enumerate(look_alikes))],
        )
        model, blessing, verdict = (
            artifact(kind, kind.TYPE_NAME)
            for kind in (standard_artifacts.Model, standard_artifacts.ModelBlessing, Verdict)
        )
        model.id = 55
        inputs = {
            "predictions": [predictions],
            "selection": [selection],
            "model": [model],
            "production_predictions": [answers],
            "production_standing": [standing],
            "ingest_report": [ingest_report],
            "schema": [schema],
            "vectors": [vectors],
        }
        if further_right is not None:
            further = artifact(standard_artifacts.Examples, "further", ["test"])
            rows = [
                prediction(row, dict.fromkeys((FEATURE_EXTRACTION, FINE_TUNED), row in further_right), label[row], {})
                for row in range(EXAMPLES)
            ]
            write_records(folder / "further" / "Split-test", rows)
            inputs["further_predictions"] = [further]
        ReleaseGate.EXECUTOR_SPEC.executor_class().Do(
            inputs,
            {"blessing": [blessing], "verdict": [verdict]},
            {
                **ReleaseConfig(**release).model_dump(),
                "further_minimum_accuracy": further_minimum_accuracy,
                "minimum_slice_examples": minimum_slice_examples,
                "confidence": 0.95,
                "bootstrap_samples": 2000,
                "seed": 1,
                "force_push": force_push,
                "code": "",
            },
        )
        findings = verdict_in(verdict.uri)
        marks = sorted(path.name for path in (folder / "ModelBlessing").iterdir())
        assert marks == sorted(["BLESSED" if findings["released"] else "NOT_BLESSED", RELEASE_FILE])
        assert blessing.get_int_custom_property("blessed") == int(findings["released"])
        assert blessing.get_int_custom_property("current_model_id") == 55
        assert blessing.get_string_custom_property("current_model") == model.uri
        findings["manifest"] = json.loads((folder / "ModelBlessing" / RELEASE_FILE).read_text())
        assert findings["manifest"]["reason"] == findings["text"]
        return findings

    return run


ALL = range(EXAMPLES)


def test_a_first_run_is_released_by_the_floors_alone(gate):
    findings = gate(range(160))
    assert findings["released"]
    assert findings["production"] == {"version": None, "state": NONE, "text": "production is none"}
    assert findings["text"] == (
        "fine-tuned: accuracy 80.0% on 200 test photos, at least release.minimum_accuracy (50.0%); production is none"
    )
    assert findings["manifest"]["winner"] == FINE_TUNED
    assert findings["manifest"]["compared_with"] is None
    assert findings["manifest"]["data_fingerprint"] == "abc"
    assert findings["manifest"]["metrics"]["accuracy"]["value"] == pytest.approx(0.8)
    assert set(findings["manifest"]["metrics"]) == {"accuracy", "loss", "calibration_error"}


@pytest.mark.parametrize(("right", "released"), [(140, True), (139, False)])
def test_the_floor_is_the_least_accuracy(gate, right, released):
    findings = gate(range(right), minimum_accuracy=0.7)
    assert findings["released"] == released
    assert ("below release.minimum_accuracy (70.0%)" in findings["text"]) != released


@pytest.mark.parametrize(
    ("right", "dogs", "refused"),
    [
        (range(50, 200), 150, True),  # always "dog"
        (range(150), 150, True),  # as often right, otherwise
        (range(151), 150, False),
        (range(100), 100, True),  # always "cat"
        (range(50, 151), 100, False),
    ],
)
def test_a_model_has_to_beat_the_commonest_class(gate, right, dogs, refused):
    findings = gate(right, dogs=dogs, minimum_accuracy=0.4)
    label, share = ("dog", 0.75) if dogs == 150 else ("cat", 0.5)
    assert (findings["constant"]["label"], findings["constant"]["accuracy"]) == (label, share)
    assert findings["released"] != refused
    if refused:
        [refusal] = findings["refusals"]
        said = f"no better than always answering {label!r}, which is right for {share:.1%} of the test photos ("
        assert refusal.startswith(said)
        assert " points on 200 photos (95% interval" in refusal
    assert gate(right, dogs=dogs, minimum_accuracy=0.4, force_push="I know")["released"]
    assert gate(right, dogs=dogs, minimum_accuracy=0)["released"]
    incomparable = {"state": UNREADABLE, "incomparable": "floors"}
    assert gate(right, dogs=dogs, minimum_accuracy=0.4, **incomparable)["released"] != refused


@pytest.mark.slow
@pytest.mark.release
def test_that_it_beats_the_commonest_class_may_have_to_be_proven(gate):
    findings = gate(range(10, 116), evidence="proven")  # 16 better, 10 worse
    [refusal] = findings["refusals"]
    assert refusal.startswith(
        "not shown to be better than always answering 'cat', which is right for 50.0% of the test"
    )
    assert gate(range(10, 116))["released"]
    assert gate(range(180), evidence="proven")["released"]


def test_test_photos_of_one_class_show_nothing(gate):
    findings = gate(ALL, dogs=0)
    assert findings["refusals"] == [
        "no better than always answering 'cat', which is right for 100.0% of the test photos, so nothing shows that it "
        "knows another class; add test photos of the others"
    ]


def test_test_photos_that_look_like_training_photos_are_told(gate):
    """Right about the first 160 of 200; ten of the first and ten of the last look like training photos."""
    findings = gate(range(160), look_alikes=[*range(10), *range(190, 200)])
    assert findings["text"].startswith(
        "fine-tuned: accuracy 80.0% on 200 test photos, 20 of which look like training photos (83.3% on the "
        "other 180), at least release.minimum_accuracy (50.0%)"
    )
    assert findings["look_alikes"] == {"photos": 20, "others": 180, "accuracy_of_others": pytest.approx(150 / 180)}
    assert findings["released"]
    assert (
        "one of which looks like a training photo (79.9% on the other 199)" in gate(range(160), look_alikes=[5])["text"]
    )
    findings = gate(range(160), look_alikes=ALL)
    assert "200 test photos, all of which look like training photos, at least" in findings["text"]
    assert findings["look_alikes"]["accuracy_of_others"] is None


def test_look_alikes_are_found_by_either_measure_and_not_among_the_views(tmp_path, write_records):
    rng = np.random.default_rng(2)
    vectors = rng.normal(0, 1, (6, 32)) + 10  # all alike before the mean is taken away
    near = "00000000000000ff"
    test = [look("a", vectors[0], near), look("b", vectors[1]), look("c", vectors[2], "f" * 16), look("d", vectors[3])]
    train = [
        look("e", vectors[4], "000000000000000f"),  # four bits from a
        look("f", vectors[1] + 0.01),  # b, nearly
        look("g", vectors[5], "f" * 8 + "0" * 8),
        look("h", vectors[3], view=1),  # an augmented view is none of the photos
    ]
    write_records(tmp_path / "Split-test", test)
    write_records(tmp_path / "Split-train", train)
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(tmp_path), artifact_utils.encode_split_names(["train", "test"])
    assert find_look_alikes(artifact) == {"a", "b"}


def test_without_vectors_and_hashes_nothing_looks_alike(tmp_path, write_records):
    write_records(tmp_path / "Split-test", [look("a", [])])
    write_records(tmp_path / "Split-train", [look("b", [])])
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(tmp_path), artifact_utils.encode_split_names(["train", "test"])
    assert find_look_alikes(artifact) == set()


def test_a_floor_by_slice_holds_where_there_are_enough_photos(gate):
    """Every photo right but 10 of the 10 PNGs and 30 of the 100 dogs."""
    right = set(ALL) - set(range(10)) - set(range(100, 130))
    floor = {"minimum_slice_accuracy": {"label": 0.6, "image_format": 0.5}}
    assert gate(right, **floor)["released"]  # the PNGs are too few
    findings = gate(right, minimum_slice_examples=10, **floor)
    assert findings["refusals"] == [
        "accuracy 0.0% on the 10 test photos with image_format 'PNG', below "
        "release.minimum_slice_accuracy.image_format (50.0%)"
    ]
    findings = gate(right, minimum_slice_accuracy={"label": 0.71})
    [refusal] = findings["refusals"]
    assert refusal.startswith("accuracy 70.0% on the 100 test photos with label 'dog', below ")


@pytest.mark.parametrize(
    ("lost", "gained", "tolerated", "released"),
    [
        (0, 0, 0.0, True),  # a tie
        (4, 2, 0.01, True),  # two of 200 photos are just what is tolerated
        (4, 1, 0.01, False),
        (1, 0, 0.0, False),
        (0, 1, 0.0, True),
        (30, 30, 0.0, True),
    ],
)
def test_the_winner_may_lose_what_is_tolerated_against_production(gate, lost, gained, tolerated, released):
    """Lost and gained photos lie in both classes alike, so that no slice decides."""
    production = set(range(60)) | set(range(100, 160))
    winner = production - set(list(range(lost // 2)) + list(range(100, 100 + lost - lost // 2)))
    winner |= set(range(70, 70 + gained // 2)) | set(range(170, 170 + gained - gained // 2))
    findings = gate(winner, production, minimum_accuracy=0.1, tolerated_loss=tolerated)
    assert findings["released"] == released, findings["text"]
    compared = findings["production"]
    assert (compared["better"], compared["worse"], compared["examples"]) == (gained, lost, EXAMPLES)
    assert findings["manifest"]["compared_with"] == 7
    assert f"fine-tuned against version 7 in production: {(gained - lost) / 2:+.1f} points on 200" in findings["text"]
    assert f"; {gained} better, {lost} worse; " in findings["text"]
    if not released:
        assert f"more than release.tolerated_loss ({tolerated:g})" in findings["text"]


@pytest.mark.slow
@pytest.mark.release
def test_evidence_may_have_to_be_proven(gate):
    """As many lost as gained: nothing is lost, but a loss of some points cannot be excluded."""
    production, winner = set(range(10, 190)), set(range(5, 185))
    overall = {"guarded_slices": []}
    assert gate(winner, production, **overall)["released"]
    findings = gate(winner, production, evidence="proven", **overall)
    assert not findings["released"]
    assert "a loss that may be as large as" in findings["text"]
    assert gate(winner, production, evidence="proven", tolerated_loss=0.1, **overall)["released"]
    assert gate(production, production, evidence="proven", tolerated_loss=0.0)["released"]


def test_a_guarded_slice_refuses_a_loss_that_is_shown(gate):
    """All in all the winner gains; of the dogs it loses 12 of 100, of the cats 3 that prove nothing."""
    production = set(range(30, 200))
    winner = set(range(27)) | set(range(33, 188))
    assert len(winner) > len(production)
    findings = gate(winner, production)
    assert not findings["released"]
    [refusal] = findings["refusals"]
    assert refusal.startswith("on the guarded slice label 'dog', against version 7 in production: -12.0 points on 100 ")
    lost = {(part["feature"], part["value"]): part["lost"] for part in findings["production"]["slices"]}
    assert lost == {("label", "cat"): False, ("label", "dog"): True}
    assert gate(winner, production, guarded_slices=[])["released"]
    assert gate(winner, production, guarded_slices=["image_format"])["released"]
    assert gate(winner, production, tolerated_loss=0.12)["released"]
    assert gate(winner, production, minimum_slice_examples=101)["released"]


def test_a_loss_on_a_slice_that_proves_nothing_does_not_refuse(gate):
    """Three dogs lost and three cats gained: the interval of the dogs reaches zero at the level of two slices."""
    production = set(range(30, 200))
    winner = set(range(27, 197))
    findings = gate(winner, production)
    assert findings["released"]
    dogs = next(part for part in findings["production"]["slices"] if part["value"] == "dog")
    assert dogs["difference"] == pytest.approx(-0.03)
    assert dogs["high"] >= 0


@pytest.mark.slow
@pytest.mark.release
def test_more_guarded_slices_ask_for_more_evidence_each(gate):
    """Four of 190 JPEGs lost and four PNGs gained: 1.8 % of the draws of JPEGs lose none, (1 - 4 / 190) ** 190. That is
    below the 2.5 % of one slice at the level of 95 %, and above the 0.8 % of one of three.
    """
    production, winner = set(range(4, 200)), set(range(200)) - set(range(100, 104))
    findings = gate(winner, production, guarded_slices=["image_format"])
    assert [(part["value"], part["lost"]) for part in findings["production"]["slices"]] == [("JPEG", True)]
    assert not findings["released"]
    findings = gate(winner, production, guarded_slices=["image_format", "dataset"])
    assert [part["value"] for part in findings["production"]["slices"]] == ["JPEG", "cats_vs_dogs", "oxford_iiit_pet"]
    assert findings["released"]


def test_the_model_in_production_is_not_compared_with_itself(gate):
    findings = gate(range(160), state=SAME)
    assert findings["released"]
    assert findings["manifest"]["compared_with"] == 7


@pytest.mark.parametrize("state", [UNREADABLE, OTHER_SIGNATURE, OTHER_LABELS])
def test_a_model_that_cannot_be_compared_refuses_unless_floors_decide(gate, state):
    findings = gate(range(160), state=state)
    assert findings["refusals"] == [
        f"production is {state}; set release.incomparable=floors, or push with --force-push REASON"
    ]
    findings = gate(range(160), state=state, incomparable="floors")
    assert findings["released"]
    assert findings["text"].endswith(f"production is {state}, so the floors alone decide (release.incomparable)")
    assert not gate(range(90), state=state, incomparable="floors")["released"]


def test_other_labels_in_another_order_are_compared_by_name(gate):
    findings = gate(range(150), range(150), production_labels=("dog", "cat"))
    assert findings["released"]
    assert (findings["production"]["better"], findings["production"]["worse"]) == (0, 0)


def test_photos_of_classes_that_production_does_not_know_are_left_out(gate):
    """It knows no dogs, and is right about 90 of 100 cats; the winner about 80 of these."""
    findings = gate(set(range(80)) | set(range(100, 200)), range(90), production_labels=("bird", "cat"))
    assert not findings["released"]
    assert (findings["production"]["examples"], findings["production"]["worse"]) == (100, 10)
    findings = gate([*range(90), *range(150, 200)], range(80), production_labels=("cat", "fish"))
    assert findings["released"]
    assert findings["text"].endswith("(100 photos of classes that it does not know are left out)")


def test_without_a_photo_of_a_common_class_nothing_can_be_compared(gate):
    findings = gate(range(160), range(160), production_labels=("bird", "fish"))
    assert findings["refusals"] == [
        "no test photo is of a class that the model in production knows, so the two cannot be compared"
    ]


def test_force_overrides_every_refusal_and_is_recorded(gate):
    findings = gate(range(80), range(160), force_push="the old one is recalled")
    assert findings["released"]
    # The floor, the commonest class, production, and both classes as guarded slices.
    assert len(findings["refusals"]) == 5
    assert findings["forced"] == findings["manifest"]["forced"] == "the old one is recalled"
    assert findings["text"].startswith("pushed by force (the old one is recalled), although fine-tuned: accuracy 40.0%")


def test_force_changes_nothing_where_nothing_is_refused(gate):
    findings = gate(range(160), range(160), force_push="to be sure")
    assert findings["released"]
    assert findings["forced"] is findings["manifest"]["forced"] is None
    assert "force" not in findings["text"]


def test_further_data_sets_are_reported_and_held_to_a_floor_if_there_is_one(gate):
    """Right about the first 100 photos: half of either data set."""
    findings = gate(range(160), further_right=range(100))
    assert findings["released"]
    assert findings["further"] == {
        "cats_vs_dogs": {"examples": 150, "accuracy": 0.5},
        "oxford_iiit_pet": {"examples": 50, "accuracy": 0.5},
    }
    assert gate(range(160), further_right=range(100), further_minimum_accuracy=0.5)["released"]
    findings = gate(range(160), further_right=set(range(100)) - {0}, further_minimum_accuracy=0.5)
    assert findings["refusals"] == [
        "accuracy 48.0% on 50 photos of oxford_iiit_pet, below evaluation.further_minimum_accuracy (50.0%)"
    ]


@pytest.mark.parametrize("winner", [FEATURE_EXTRACTION, FINE_TUNED, ENSEMBLE])
def test_the_winner_is_judged_whoever_it_is(gate, winner):
    findings = gate(range(160), range(160), winner=winner)
    assert findings["released"]
    assert findings["accuracy"] == pytest.approx(0.8)
    assert findings["manifest"]["winner"] == winner


@pytest.mark.parametrize(("minimum", "released"), [(0, True), (200, True), (201, False)])
def test_too_few_test_photos_release_nothing(gate, minimum, released):
    findings = gate(range(160), minimum_test_photos=minimum)
    assert findings["released"] is released
    if not released:
        assert findings["refusals"] == [
            "200 test photos, expected at least 201 (release.minimum_test_photos), and even 200 correct answers would "
            "only show an accuracy of 98.1%; add photos, or give the test split a larger share (data.splits.test)"
        ]


def test_an_accuracy_that_cannot_be_told_from_its_floor_is_said_to_be_so(gate):
    """80 % of 200, 95 % interval 73.9 to 85.0."""
    findings = gate(range(160), minimum_accuracy=0.75)
    assert findings["released"]
    assert findings["undecided"] == (
        "200 test photos are too few to tell this accuracy from release.minimum_accuracy (95% interval 73.9 to 85.0)"
    )
    assert f"(75.0%); {findings['undecided']}; production is none" in findings["text"]
    refused = gate(range(160), minimum_accuracy=0.84)
    assert not refused["released"]
    assert refused["text"].endswith(f"; {refused['undecided']}")
    for floor in (0.0, 0.73, 0.86):
        assert gate(range(160), minimum_accuracy=floor)["undecided"] is None
