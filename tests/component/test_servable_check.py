"""ServableCheck: the exported model answers in a fresh process as it was evaluated, or it is refused with a reason."""

import ast
import hashlib
import io
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components.pusher.executor import Executor as TfxPusherExecutor
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from components.artifacts import Verdict
from components.evaluator.stored_predictions import ENSEMBLE, FINE_TUNED, LABEL_INDEX, probabilities_key
from components.records import choose_golden, text
from components.servable_check import component, fresh_process, probe, warmup
from components.servable_check.judgement import Limits
from components.transform import image_ops
from components.verdict import write_verdict
from schemas import features as f
from schemas.json_records import to_json
from tests.verdicts import selection_of, verdict_in

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def photos(drawn_photos, odd_photos):
    png = drawn_photos[2].photo_bytes  # the first JPEG, of which other kinds are made, is not the first photo
    return [png, *odd_photos.values()]


@pytest.fixture(scope="module")
def expected(exported_model, photos):
    """What the model answers in this process."""
    model = tf.saved_model.load(exported_model)
    return model.signatures["serving_default"](image_bytes=tf.constant(photos))["probabilities"].numpy()


@pytest.fixture(scope="module")
def stamped(exported_model, photos, tmp_path_factory):
    """A copy of the model with warm-up requests in it."""
    folder = tmp_path_factory.mktemp("stamped") / "model"
    shutil.copytree(exported_model, folder)
    assert warmup.write_requests(str(folder), photos[0]) == 8
    return str(folder)


def test_the_right_model_is_servable_and_the_process_had_nothing_of_ours(stamped, photos, expected, monkeypatch):
    errors = []

    class WithImportTimes(subprocess.Popen):
        def __init__(self, command, **options):
            assert command[1] == "-I", "the process must not see the working folder, nor PYTHONPATH"
            super().__init__([command[0], "-X", "importtime", *command[1:]], **options)

        def communicate(self, *arguments):
            told = super().communicate(*arguments)
            errors.append(told[1])
            return told

    monkeypatch.setattr(subprocess, "Popen", WithImportTimes)
    findings = to_json(component.check(stamped, photos, expected, TOLERANCE, Limits(600, 1e6, 1e6, 1e6)))
    assert findings["servable"], findings["text"]
    assert findings["golden_photos"] == len(photos)
    assert findings["kinds"] == ["png", "grey", "tiny", "huge", "corrupt"]
    assert 0 <= findings["largest_difference"] <= TOLERANCE
    assert 0 <= findings["largest_disagreement"] <= TOLERANCE
    assert findings["load_seconds"] > 0
    assert 0 < findings["latency_milliseconds"] < findings["batch_latency_milliseconds"]
    size = sum(file.stat().st_size for file in Path(stamped).rglob("*") if file.is_file())
    assert findings["megabytes"] == pytest.approx(size / 1e6)
    assert findings["warm_up_requests"] == 8
    assert findings["exports"] == {}
    assert f"on {len(photos)} photos the probabilities differ by at most" in findings["text"]
    assert findings["text"].endswith("within 1e-05")

    [told] = errors
    lines = [line for line in told.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"numpy", "tensorflow"} <= imported
    foreign = {"components", "schemas", "pipeline", "deploy", "tfx", "tfx_bsl", "tensorflow_transform", "apache_beam"}
    assert not imported & (foreign | {"tensorflow_hub", "tensorflow_model_analysis", "tensorflow_serving"})


def test_the_probe_names_tensorflow_and_numpy_alone():
    imported = set()
    for node in ast.walk(ast.parse(Path(probe.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0] if node.level == 0 else "(relative)")
    assert imported == {"os", "sys", "time", "numpy", "tensorflow"}


def test_a_probability_that_is_off_by_a_thousandth_is_refused(exported_model, photos, expected):
    changed = expected.copy()
    changed[-1] += [1e-3, -1e-3]  # of one photo
    findings = to_json(component.check(exported_model, photos, changed, TOLERANCE, Limits(maximum_megabytes=1e-6)))
    assert not findings["servable"]
    assert findings["largest_difference"] == pytest.approx(1e-3, rel=0.05)
    assert "differ by at most 1.0e-03, more than 1e-05; megabytes: " in findings["text"]
    assert findings["text"].endswith("more than serving.maximum_megabytes (1e-06)")
    assert findings["warm_up_requests"] == 0, "this model has none"


@pytest.mark.slow
@pytest.mark.release
def test_the_png_is_expected_to_answer_as_the_photo_it_was_made_of(monkeypatch, exported_model, photos, expected):
    """Only a PNG of other pixels can tell: the photos themselves answer as expected."""
    make_kinds = component.make_kinds

    def other_pixels(photo, background):
        assert photo == next(each for each in photos if each.startswith(b"\xff\xd8"))
        kinds = make_kinds(photo, background)
        return kinds | {"png": make_kinds(photos[-1], background)["png"]}

    monkeypatch.setattr(component, "make_kinds", other_pixels)
    findings = to_json(component.check(exported_model, photos, expected, TOLERANCE))
    assert not findings["servable"]
    assert findings["largest_difference"] > 1e-3


@pytest.mark.slow
@pytest.mark.release
def test_what_cannot_be_loaded_fails_the_check_with_the_last_line_of_the_process(tmp_path, photos, expected):
    with pytest.raises(fresh_process.ProcessFailed) as failed:
        component.check(str(tmp_path), photos, expected, TOLERANCE)
    text = str(failed.value)
    assert text.startswith("a fresh process could not serve the model: OSError: ")
    assert str(tmp_path) in text
    assert text.endswith("; nothing is decided by that, and the next run checks again")
    assert "\n" not in text


def test_a_process_that_hangs_decides_nothing(monkeypatch, tmp_path, photos, expected):
    def never_ends(process, given, timeout):
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", never_ends)
    with pytest.raises(fresh_process.ProcessHangs, match=r"^a fresh process did not answer within 600 s; nothing is "):
        component.check(str(tmp_path), photos, expected, TOLERANCE)


@pytest.mark.parametrize(
    ("seconds", "asked", "servable"),
    [([0.5], 1, True), ([3, 0.5], 2, True), ([3, 4, 0.5], 3, True), ([3, 2, 4], 3, False)],
)
@pytest.mark.parametrize("what", ["load_seconds", "latency_seconds", "batch_latency_seconds"])
def test_a_machine_that_is_busy_for_a_while_refuses_no_model(
    monkeypatch, exported_model, photos, expected, what, seconds, asked, servable
):
    """The times are the shortest of several processes'."""
    process_of = iter(seconds)
    answers = np.concatenate([expected, expected[[component.choose_original(photos)]]])

    def ask(saved_model, made, folder, *images_file):
        times = dict.fromkeys(("load_seconds", "latency_seconds", "batch_latency_seconds"), np.array(0.1))
        times[what] = np.array(next(process_of))
        given = {f"{name}_probabilities": answers for name in ("serving_default", "serve_examples")}
        return {**given, **times, "warm_up_requests": np.array(0)}

    monkeypatch.setattr(component, "_ask", ask)
    monkeypatch.setattr(component.OfClasses, "faults", lambda *arguments: [])
    findings = to_json(component.check(exported_model, photos, expected, TOLERANCE, Limits(1, 1000, 1000)))
    assert findings["servable"] is servable
    assert findings["measured"] == asked
    assert next(process_of, None) is None
    key = what.replace("latency_seconds", "latency_milliseconds")
    assert findings[key] == pytest.approx(min(seconds) * (1 if what == "load_seconds" else 1000))
    assert ("(the best of" in findings["text"]) == (asked > 1)


class Faulty(tf.Module):
    """Answers whatever it is asked, and each signature wrongly in a way of its own."""

    def __init__(self):
        super().__init__()
        self.abstain_below = tf.Variable(0.9)

    @staticmethod
    def _answer(batch, probabilities, label, probability, abstains):
        return {
            "probabilities": tf.tile([probabilities], [batch, 1]),
            "label": tf.fill([batch], label),
            "probability": tf.fill([batch], probability),
            "abstains": tf.fill([batch], abstains),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes):
        return self._answer(tf.size(image_bytes), [0.25, 0.75], "cat", 0.75, False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve_examples(self, examples):
        return self._answer(tf.size(examples), [float("nan"), 1.0], "cat", 1.0, False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def transform_features(self, examples):
        return {"image": tf.fill([tf.size(examples), 16, 16, 3], 255.0)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def feature_vector(self, image_bytes):
        return {"feature_vector": tf.fill([tf.size(image_bytes), 4], float("inf"))}

    @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.float32, name="images")])
    def probabilities_of_images(self, images):
        return tf.tile([[0.25, 0.75]], [tf.shape(images)[0], 1])


def save(model, folder):
    names = ("serving_default", "serve_examples", "transform_features", "feature_vector")
    tf.saved_model.save(model, str(folder), signatures={name: getattr(model, name) for name in names})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "labels.txt").write_text("cat\ndog\n")


@pytest.mark.slow
@pytest.mark.release
def test_every_fault_of_a_faulty_model_is_named(tmp_path, photos):
    save(Faulty(), tmp_path)
    wanted = np.tile(np.array([[0.25, 0.75]], np.float32), [len(photos), 1])
    findings = to_json(component.check(str(tmp_path), photos, wanted, TOLERANCE))
    assert not findings["servable"]
    assert np.isnan(findings["largest_difference"])
    for fault in (
        "the probabilities differ by at most nan, more than 1e-05",
        "serving_default gives a label that is not the likeliest one, first for the photo 'golden_0'",
        "serving_default gives abstentions that do not follow from abstain_below (0.90)",
        "serve_examples gives probabilities that do not add up to 1",
        "the signatures disagree about a probability by nan",
        "transform_features gives values from 255 to 255, not within 0 and 1",
        "feature_vector gives shape (11, 4) or values that are no numbers",
        "a JPEG that is cut in half got an answer and no error",
    ):
        assert f"; {fault}" in findings["text"]


def read_requests(folder):
    records = tf.data.TFRecordDataset(str(Path(folder) / "assets.extra" / "tf_serving_warmup_requests"))
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records.as_numpy_iterator()]


def test_warm_up_requests_are_of_each_signature_alone_and_in_a_batch_and_each_is_answered(stamped, photos):
    model = tf.saved_model.load(stamped)
    sizes = Counter()
    for log in read_requests(stamped):
        request = log.predict_log.request
        signature = model.signatures[request.model_spec.signature_name]
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        [(name, values)] = inputs.items()
        assert values.dtype == object
        assert all(photos[0] in value for value in values)
        outputs = signature(**{name: tf.constant(values)})
        assert all(len(output) == len(values) for output in outputs.values())
        sizes[request.model_spec.signature_name, len(values)] += 1
    assert sizes == {(name, size): 1 for name in model.signatures for size in (1, 32)}


@pytest.mark.slow
@pytest.mark.release
def test_a_warm_up_request_that_the_model_cannot_answer_fails_the_check(stamped, photos, expected, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(stamped, folder)
    logs = read_requests(stamped)
    logs[-1].predict_log.request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"no photo"]))
    io_utils.write_tfrecord_file(path_utils.warmup_file_path(str(folder)), *logs)
    with pytest.raises(fresh_process.ProcessFailed, match=r"^a fresh process could not serve the model: "):
        component.check(str(folder), photos, expected, TOLERANCE)


def golden_candidates():
    """Formats by content hash: JPEG for 0 to 5, GIF for 6, PNG for 7 and 8, BMP for 9."""
    examples = []
    for key, image_format in enumerate(["JPEG"] * 6 + ["GIF", "PNG", "PNG", "BMP"]):
        example = tf.train.Example()
        example.features.feature[f.CONTENT_HASH].bytes_list.value.append(f"{key:064x}".encode())
        example.features.feature[f.IMAGE_FORMAT].bytes_list.value.append(image_format.encode())
        examples.append(example)
    return examples


def keys(examples):
    return [int(text(example, f.CONTENT_HASH), 16) for example in examples]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(4, [0, 6, 7, 9]), (6, [0, 6, 7, 9, 1, 2]), (2, [0, 6]), (100, [0, 6, 7, 9, 1, 2, 3, 4, 5, 8])],
)
def test_golden_photos_are_one_of_each_format_first_whatever_the_order(count, chosen):
    candidates = golden_candidates()
    for seed in range(5):
        random.Random(seed).shuffle(candidates)
        assert keys(choose_golden(iter(candidates), count)) == chosen


def test_others_are_made_of_the_first_jpeg(odd_photos):
    jpeg, png, gif = odd_photos["jpeg"], odd_photos["png_with_alpha"], odd_photos["gif"]
    assert component.choose_original([png, jpeg, odd_photos["grey_jpeg"]]) == 1
    assert component.choose_original([gif, png]) == 0


@pytest.mark.parametrize("kind", ["jpeg", "grey_jpeg", "png_with_alpha", "gif", "bmp", "turned_jpeg"])
def test_the_kinds_made_of_a_photo_are_what_they_are_called(odd_photos, kind):
    photo = odd_photos[kind]
    made = component.make_kinds(photo)
    assert list(made) == ["png", "grey", "tiny", "huge", "corrupt"]
    opened = {name: Image.open(io.BytesIO(content)) for name, content in made.items() if name != "corrupt"}
    formats = {name: picture.format for name, picture in opened.items()}
    assert formats == {"png": "PNG", "grey": "JPEG", "tiny": "JPEG", "huge": "JPEG"}
    assert opened["grey"].mode == "L"
    assert opened["tiny"].size == (16, 16)
    assert opened["huge"].size == (4000, 3000)

    def prepare(content):
        return image_ops.photo_to_unit_range(tf.constant(content), 16, "bilinear", False).numpy()

    np.testing.assert_allclose(prepare(made["png"]), prepare(photo), atol=1e-6)
    if kind != "turned_jpeg":
        np.testing.assert_array_equal(image_ops.decode_image(made["png"]), image_ops.decode_image(photo))
    with pytest.raises(tf.errors.InvalidArgumentError):
        prepare(made["corrupt"])


@pytest.fixture
def servable_check(tmp_path, exported_model, drawn_photos, make_example, write_records):
    """Runs the component; gives the verdict, the blessing, and the folder of the model to push."""
    model = tf.saved_model.load(exported_model)
    signature = model.signatures["serving_default"]

    def run(winner=FINE_TUNED, exports=(), **settings):
        examples, predictions = standard_artifacts.Examples(), standard_artifacts.Examples()
        predicted = []
        for photo in drawn_photos[:6]:
            example = tf.train.Example()
            for name, value in (
                (f.CONTENT_HASH, hashlib.sha256(photo.photo_bytes).hexdigest()),
                (f.FILE_NAME, photo.name),
            ):
                example.features.feature[name].bytes_list.value.append(value.encode())
            example.features.feature[LABEL_INDEX].int64_list.value.append(0)
            right = signature(image_bytes=tf.constant([photo.photo_bytes]))["probabilities"].numpy()[0]
            # The ensemble is another model.
            for name, values in ((FINE_TUNED, right), (ENSEMBLE, right[::-1])):
                example.features.feature[probabilities_key(name)].float_list.value.extend(values)
            predicted.append(example)
        for artifact, name, rows in (
            (examples, "examples", [make_example(photo) for photo in drawn_photos[:6]]),
            (predictions, "predictions", predicted),
        ):
            artifact.uri = str(tmp_path / name)
            artifact.split_names = artifact_utils.encode_split_names(["test"])
            write_records(tmp_path / name / "Split-test", rows)
        chosen, selection, verdict = standard_artifacts.Model(), Verdict(), Verdict()
        blessing = standard_artifacts.InfraBlessing()
        chosen.uri, selection.uri = str(tmp_path / "model"), str(tmp_path / "selection")
        verdict.uri, blessing.uri = str(tmp_path / "verdict"), str(tmp_path / "blessing")
        shutil.copytree(exported_model, tmp_path / "model" / "Format-Serving")
        write_verdict(selection.uri, selection_of(winner))
        component.ServableCheck.EXECUTOR_SPEC.executor_class().Do(
            {"model": [chosen], "examples": [examples], "predictions": [predictions], "selection": [selection]},
            {"blessing": [blessing], "verdict": [verdict]},
            {
                "golden_photos": 4,
                "tolerance": TOLERANCE,
                "exports": list(exports),
                "export_tolerance": 1e-4,
                "code": "",
                **settings,
            },
        )
        return verdict_in(verdict.uri), blessing, Path(path_utils.stamped_model_path(blessing.uri))

    return run


def test_a_servable_model_is_blessed_and_lies_in_the_blessing_with_its_warm_up_requests(servable_check, exported_model):
    verdict, blessing, folder = servable_check()
    assert verdict["servable"], verdict["text"]
    assert verdict["golden_photos"] == 4
    assert verdict["warm_up_requests"] == 8
    assert Path(blessing.uri, "INFRA_BLESSED").exists()
    assert blessing.get_int_custom_property("blessed") == 1
    # What TFX's own Pusher would push.
    assert TfxPusherExecutor().GetModelPath({"infra_blessing": [blessing]}) == str(folder)
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    model = Path(exported_model)
    assert files == {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()} | {
        "assets.extra/tf_serving_warmup_requests"
    }
    assert (folder / "assets.extra" / "tf_serving_warmup_requests").stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"winner": ENSEMBLE}, "the probabilities differ by at most"),
        pytest.param(
            {"maximum_load_seconds": 1e-9},
            "more than serving.maximum_load_seconds (1e-09)",
            marks=pytest.mark.release,
        ),
        pytest.param(
            {"maximum_latency_milliseconds": 1e-9},
            "more than serving.maximum_latency_milliseconds (1e-09)",
            marks=pytest.mark.release,
        ),
        pytest.param(
            {"maximum_batch_latency_milliseconds": 1e-9},
            "more than serving.maximum_batch_latency_milliseconds (1e-09)",
            marks=pytest.mark.release,
        ),
        pytest.param(
            {"maximum_megabytes": 1e-9}, "more than serving.maximum_megabytes (1e-09)", marks=pytest.mark.release
        ),
    ],
)
def test_a_refused_model_is_not_blessed_and_not_kept(servable_check, monkeypatch, settings, reason):
    monkeypatch.setattr(component, "_TRIES", 1 if "maximum_load_seconds" not in settings else 3)
    verdict, blessing, folder = servable_check(**settings)
    assert not verdict["servable"]
    assert reason in verdict["text"]
    assert Path(blessing.uri, "INFRA_NOT_BLESSED").exists()
    assert not Path(blessing.uri, "INFRA_BLESSED").exists()
    assert blessing.get_int_custom_property("blessed") == 0
    assert not blessing.has_custom_property("has_model")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("exports", "text"),
    [
        ([], "a fresh process could not serve the model: ended by SIGKILL: no message; nothing is decided by that"),
        (["tflite"], "the export to tflite failed: ended by SIGKILL: no message"),
    ],
)
def test_a_process_that_is_killed_leaves_no_verdict(servable_check, monkeypatch, tmp_path, exports, text):
    """Whoever lacked memory for a moment must not have a good model refused for ever."""

    def is_killed(program, *arguments):
        raise fresh_process.ProcessFailed("ended by SIGKILL: no message")

    monkeypatch.setattr(fresh_process, "run", is_killed)
    with pytest.raises(fresh_process.ProcessFailed) as failed:
        servable_check(exports=exports)
    assert str(failed.value).startswith(text)
    assert not (tmp_path / "verdict").exists()
    assert not list((tmp_path / "blessing").glob("INFRA_*"))
