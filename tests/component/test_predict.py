"""The command predict: every photo gets the model's own answer, every other file its reason."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from components.example_gen.photo_rules import INPUT_FILE, PhotoRules, as_json
from components.serving_folder.files import model_identity
from deploy import cli
from deploy.collection import Collection
from deploy.root import Root
from schemas.findings import CLOSE
from schemas.release import Release
from schemas.safe_csv import read_csv

tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def asked(exported_model, drawn_photos):
    """The answers of the served signature itself: label [photo] and probabilities [photo, class]."""
    signature = tf.saved_model.load(exported_model).signatures["serving_default"]
    said = signature(image_bytes=tf.constant([photo.photo_bytes for photo in drawn_photos]))
    return [label.decode() for label in said["label"].numpy()], said["probabilities"].numpy()


@pytest.fixture
def photos(tmp_path, drawn_photos, monkeypatch):
    """A folder of photos, some of them in folders; the working directory is above it."""
    for i, photo in enumerate(drawn_photos):
        file = tmp_path / "photos" / ("a", "b/c")[i % 2] / f"{i:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photo.photo_bytes)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def predict(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, ["predict", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


class CutModel(tf.Module):
    """Answers photos with their first channel's mean as the probability of `dog`, and abstains where it is told to."""

    def __init__(self, abstains: bool):
        super().__init__()
        self._abstains = abstains

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        def red(photo):  # refuses BMPs, and PNGs with a message that quotes them
            tf.debugging.assert_none_equal(tf.strings.substr(photo, 0, 4), b"\x89PNG")
            return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(photo, channels=3), tf.float32)[..., 0]) / 255

        dog = tf.map_fn(red, image_bytes, fn_output_signature=tf.float32)
        probabilities = tf.stack([1 - dog, dog], axis=1)
        probability = tf.reduce_max(probabilities, axis=1)
        said = {
            "label": tf.gather(tf.constant(["cat", "dog"]), tf.argmax(probabilities, axis=1)),
            "probability": probability,
            "probabilities": probabilities,
        }
        return {**said, "abstains": probability < 0.87} if self._abstains else said


@pytest.fixture
def cut_model(tmp_path):
    """A function that exports a `CutModel`."""

    def export(abstains: bool) -> str:
        folder, model = tmp_path / f"model_{abstains}", CutModel(abstains)
        tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serving_default})
        (folder / "assets.extra").mkdir()
        (folder / "assets.extra" / "labels.txt").write_text("cat\ndog\n")
        return str(folder)

    return export


def test_photos_get_the_answers_of_the_served_signature(photos, exported_model, drawn_photos, asked):
    labels, probabilities = asked
    code, output, errors = predict("photos/a", "photos/b/c/01.jpg", "--model", exported_model, "--json")
    assert (code, errors) == (0, "")
    answers = json.loads(output)
    rows = [*range(0, len(drawn_photos), 2), 1]
    assert [answer["file"] for answer in answers] == [f"photos/{'b/c' if i % 2 else 'a'}/{i:02}.jpg" for i in rows]
    assert {labels[i] for i in rows} == {"cat", "dog"}
    for answer, i in zip(answers, rows, strict=True):
        assert answer["label"] == labels[i]
        np.testing.assert_allclose(
            [answer["probabilities"][label] for label in ("cat", "dog")], probabilities[i], atol=1e-6
        )
        assert answer["probability"] == max(answer["probabilities"].values())
        assert answer["abstains"] is False
        assert set(answer) == {"file", "label", "probability", "abstains", "probabilities"}


def test_a_table_for_people(photos, exported_model, asked):
    labels, probabilities = asked
    code, output, _ = predict("photos/a/00.jpg", "photos/b/c/01.jpg", "--model", exported_model)
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    assert rows[0] == ["file", "label", "probability", "runner-up"]
    for row, file, i in zip(rows[1:], ("photos/a/00.jpg", "photos/b/c/01.jpg"), (0, 1), strict=True):
        first, second = sorted(probabilities[i], reverse=True)
        other = {"cat": "dog", "dog": "cat"}[labels[i]]
        assert row == [file, labels[i], f"{first:.1%}", other, f"{second:.1%}"]


def test_bad_files_are_named_with_their_reasons_and_the_others_answered(photos, exported_model):
    (photos / "a" / "00a.jpg").touch()
    (photos / "a" / "notes.jpg").write_text("cats are nice")
    (photos / "b" / "cut.jpg").write_bytes((photos / "a" / "00.jpg").read_bytes()[:300])
    arguments = ["photos", "absent.jpg", os.devnull, "--model", exported_model]
    code, output, errors = predict(*arguments)
    assert code == 2
    assert len(output.splitlines()) == 1 + 24
    assert errors.splitlines() == [
        "error: photos/a/00a.jpg is empty (0 bytes); expected a photo.",
        "error: photos/a/notes.jpg is a text file, not an image; supported formats are JPEG, PNG, GIF, BMP, "
        "and with data.convert also WebP, TIFF, AVIF, HEIC.",
        "error: photos/b/cut.jpg is a truncated JPEG; copy it again.",
        "error: absent.jpg cannot be read: No such file or directory.",
        f"error: {os.devnull} is not a file; expected a photo.",
        "24 of 29 files were answered",
    ]
    code, output, _ = predict(*arguments, "--json")
    assert code == 2
    answers = json.loads(output)
    assert [answer.get("reason", "") for answer in answers if "label" not in answer] == [
        "empty",
        "not_an_image",
        "truncated",
        "unreadable",
        "unreadable",
    ]
    assert [answer["file"] for answer in answers if "label" in answer] == sorted(
        f"photos/{path.relative_to(photos)}" for path in photos.rglob("??.jpg")
    )
    assert answers[1] == {
        "file": "photos/a/00a.jpg",
        "reason": "empty",
        "error": "photos/a/00a.jpg is empty (0 bytes); expected a photo.",
    }


def test_nothing_but_bad_files(photos, exported_model):
    code, output, errors = predict("absent.jpg", "--model", exported_model)
    assert (code, output) == (2, "")
    assert errors.splitlines()[-1] == "0 of 1 files were answered"


def test_a_photo_that_the_model_refuses_costs_the_others_nothing(photos, cut_model, drawn_photos, odd_photos):
    folder = cut_model(abstains=False)
    (photos / "a" / "98.bmp").write_bytes(odd_photos["bmp"])
    code, output, errors = predict("photos/a", "--model", folder, "--json")
    assert code == 2
    answers = {int(answer["file"][-6:-4]): answer for answer in json.loads(output)}
    assert answers[98]["reason"] == "corrupt"
    for i in range(0, 24, 2):
        if drawn_photos[i].image_format == "JPEG":
            red = tf.reduce_mean(tf.cast(tf.io.decode_jpeg(drawn_photos[i].photo_bytes), tf.float32)[..., 0]) / 255
            assert answers[i]["probabilities"]["dog"] == pytest.approx(float(red))
            assert answers[i]["abstains"] is False  # a model that cannot abstain
        else:
            assert answers[i]["reason"] == "corrupt"
            assert f"error: photos/a/{i:02}.jpg is a photo that the model cannot decode" in errors
    assert len([answer for answer in answers.values() if "label" in answer]) == 6


def test_a_model_that_abstains_is_said_to(photos, cut_model):
    jpegs = [f"photos/{'ab'[i % 2]}{'/c' * (i % 2)}/{i:02}.jpg" for i in range(24) if i // 2 % 2 == 0]
    arguments = [*jpegs, "--model", cut_model(abstains=True)]
    code, output, _ = predict(*arguments, "--json")
    assert code == 0
    answers = json.loads(output)
    assert {answer["abstains"] for answer in answers} == {True, False}
    assert all(answer["abstains"] == (answer["probability"] < 0.87) for answer in answers)
    table = predict(*arguments)[1].splitlines()
    assert ["abstains" in line for line in table[1:]] == [answer["abstains"] for answer in answers]


def test_many_photos_are_answered_in_batches_and_in_order(photos, exported_model, monkeypatch):
    from deploy import prediction

    files = [str(path) for path in sorted(photos.rglob("*.jpg"))] * 3
    model, sizes, progress = prediction.Model(Path(exported_model)), [], []
    answer = model.answer
    monkeypatch.setattr(model, "answer", lambda names, bytes_: (sizes.append(len(names)), answer(names, bytes_))[1])
    answers = list(prediction.predict(model, files, progress.append))
    assert [each.file for each in answers] == files
    assert sizes == [32, 32, 8]
    assert progress == [32, 64, 72]
    for once, again in zip(answers[:24], answers[24:48], strict=True):
        # The last bits of a product depend on a photo's place in its batch.
        assert again.probabilities == pytest.approx(once.probabilities, abs=1e-5)


def test_the_version_in_production_answers_unless_another_is_asked_for(photos, cut_model, exported_model, tmp_path):
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    serving = root.serving_folder()
    versions = [
        serving.push(folder, model_identity(folder), Release(), serving.production()).version
        for folder in (cut_model(abstains=False), exported_model)
    ]
    file = "photos/a/00.jpg"

    def probability(*arguments):
        return json.loads(predict(file, "--json", *arguments)[1])[0]["probability"]

    old, new = probability("--version", versions[0]), probability("--version", versions[1])
    assert old != new
    assert probability() == probability("--root", "runs/cats_vs_dogs") == new
    serving.rollback()
    assert probability() == old


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, "is not a SavedModel"),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b"\xff" * 99), "is damaged"),
        (lambda folder: shutil.rmtree(folder / "variables"), "is damaged"),
        (lambda folder: shutil.rmtree(folder / "assets.extra"), "was not made by warmstart: it has no assets.extra"),
        (
            lambda folder: tf.saved_model.save(tf.Module(), str(folder)),
            "was not made by warmstart: it has no assets.extra/labels.txt, or no signature serving_default",
        ),
    ],
)
def test_what_is_no_model_of_ours_is_refused(photos, exported_model, tmp_path, damage, said):
    folder = tmp_path / "model"
    shutil.copytree(exported_model, folder)
    damage(folder)
    code, output, errors = predict("photos", "--model", folder)
    assert (code, output) == (2, "")
    assert f"{folder} {said}" in errors
    assert len(errors.splitlines()) == 1


def test_a_name_that_is_no_text_is_shown_all_the_same(photos, exported_model):
    odd = os.fsdecode(b"photos/a/caf\xe9.jpg")
    shutil.copy("photos/a/00.jpg", odd)
    (photos / os.fsdecode(b"bad\xe9.jpg")).touch()
    code, output, errors = predict("photos", "--model", exported_model)
    assert code == 2
    assert r"photos/a/caf\udce9.jpg" in output
    assert r"photos/bad\udce9.jpg is empty" in errors
    assert odd in [answer["file"] for answer in json.loads(predict("photos", "--model", exported_model, "--json")[1])]


def test_what_the_terminal_cannot_show_is_escaped(photos, exported_model):
    (photos / "a" / "00.jpg").rename(photos / "犬.jpg")
    (photos / "猫.jpg").touch()
    result = CliRunner(charset="latin-1").invoke(cli.main, ["predict", "photos", "--model", exported_model])
    assert result.exit_code == 2
    assert r"photos/\u72ac.jpg" in result.stdout
    assert r"photos/\u732b.jpg is empty" in result.stderr


@pytest.fixture
def ruled_model(exported_model, tmp_path):
    """A function from rules to a copy of the model that has them."""

    def copy(rules: PhotoRules) -> str:
        folder = tmp_path / "ruled"
        shutil.copytree(exported_model, folder)
        (folder / INPUT_FILE).write_text(as_json(rules))
        return str(folder)

    return copy


def test_photos_are_judged_by_the_rules_of_the_model(photos, exported_model, ruled_model, drawn_photos):
    size = Image.open(io.BytesIO(drawn_photos[0].photo_bytes)).size
    small = Image.new("RGB", (8, 8), "white")
    small.paste("red", (0, 0, 4, 8))
    small.save("small.png")
    assert predict("small.png", "--model", exported_model)[2].splitlines()[0] == (
        "error: small.png is 8 x 8 pixels; each side must be at least 16."
    )
    model = ruled_model(PhotoRules(min_side=8, max_pixels=64))
    assert predict("small.png", "--model", model)[0] == 0
    assert predict("photos/a/00.jpg", "--model", model)[2].splitlines()[0] == (
        f"error: photos/a/00.jpg is {size[0]} x {size[1]} pixels; at most 64 in total are allowed."
    )


def test_the_rules_outlive_a_rollback(photos, cut_model, ruled_model):
    root = Root("runs/cats_vs_dogs")
    root.prepare("cats_vs_dogs")
    serving, model = root.serving_folder(), ruled_model(PhotoRules(min_side=1000))
    for folder in (model, cut_model(abstains=False)):
        serving.push(folder, model_identity(folder), Release(), serving.production())
    assert predict("photos/a/00.jpg")[0] == 0
    serving.rollback()
    assert "at least 1000" in predict("photos/a/00.jpg")[2]


def test_a_webp_gets_the_answer_of_its_pixels(photos, exported_model, ruled_model, drawn_photos):
    picture = Image.open(io.BytesIO(drawn_photos[0].photo_bytes)).convert("RGB")
    picture.save("cat.webp", lossless=True)
    picture.save("cat.png")
    code, output, _ = predict("cat.webp", "cat.png", "--model", exported_model, "--json")
    assert code == 0
    webp, png = json.loads(output)
    assert webp["probabilities"] == pytest.approx(png["probabilities"], abs=1e-6)
    code, _, errors = predict("cat.webp", "--model", ruled_model(PhotoRules(convert=False)))
    assert code == 2
    assert errors.startswith("error: cat.webp is in WebP format")


def test_progress_is_shown_on_a_terminal_for_many_photos(photos, cut_model, monkeypatch):
    arguments = [*["photos/a/00.jpg"] * 48, "--model", cut_model(abstains=False)]
    assert predict(*arguments)[2] == ""  # not on a terminal
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    loading = "loading the model ..."
    loading += f"\r{' ' * len(loading)}\r"
    assert predict(*arguments)[2] == f"{loading}\r32 of 48 photos answered\r48 of 48 photos answered\n"
    assert predict("photos/a/00.jpg", *arguments[-2:])[2] == loading


def test_answers_go_into_a_file_for_spreadsheets(photos, exported_model, tmp_path):
    bad = Path("photos") / "=bad.jpg"
    bad.write_text("no photo")
    code, out, _ = predict("photos", "--model", exported_model, "--csv", tmp_path / "answers.csv", "--json")
    assert code == 2
    header, rows = read_csv(tmp_path / "answers.csv")
    names = ["file", "label", "probability", "abstains", "reason", "error"]
    assert header == [*names, "probability of cat", "probability of dog"]
    told = json.loads(out)
    assert [row.cells["file"] for row in rows] == [answer["file"] for answer in told]
    for row, answer in zip(rows, told, strict=True):
        assert row.cells["label"] == answer.get("label", "")
        assert row.cells["error"] == answer.get("error", "")
        if "label" in answer:
            assert float(row.cells["probability of dog"]) == answer["probabilities"]["dog"]
            assert row.cells["abstains"] == "no"
    code, _, said = predict("photos", "--model", exported_model, "--csv", tmp_path / "nowhere" / "answers.csv")
    assert (code, "there is no folder for it" in said) == (2, True)


def test_photos_that_the_model_is_not_sure_of_are_copied(photos, calibrated_model, tmp_path):
    _, out, said = predict("photos", "--model", calibrated_model, "--collect", tmp_path / "unsure", "--json")
    told = json.loads(out)
    unsure = {one["file"] for one in told if one["abstains"] or abs(2 * one["probability"] - 1) < CLOSE}
    assert 0 < len(unsure) < len(told)
    collected = Collection(tmp_path / "unsure").photos()
    assert {photo.name for photo in collected} == unsure
    for photo in collected:
        assert (tmp_path / "unsure" / photo.file).read_bytes() == Path(photo.name).read_bytes()
    assert f"{len(unsure)} of {len(unsure)} photos that the model is not sure of were copied" in said
    _, _, said = predict("photos", "--model", calibrated_model, "--collect", tmp_path / "unsure")
    assert f"0 of {len(unsure)} photos" in said


@pytest.mark.parametrize("as_json", [False, True])
def test_photos_that_are_all_absent_are_told_before_anything_slow(exported_model, monkeypatch, as_json):
    monkeypatch.setitem(sys.modules, "deploy.prediction", None)  # so that it cannot be imported
    code, out, err = predict("absent.jpg", "--model", str(exported_model), *(["--json"] if as_json else []))
    sentence = "absent.jpg cannot be read: No such file or directory."
    assert code == 2
    assert err.splitlines() == [f"error: {sentence}", "0 of 1 files were answered"]
    assert (
        out == ""
        if not as_json
        else json.loads(out) == [{"file": "absent.jpg", "reason": "unreadable", "error": sentence}]
    )
