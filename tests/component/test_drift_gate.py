"""DriftGate: what it reads of the spans, what it leaves behind, and what it says of real photos."""

from __future__ import annotations

import io

import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import numpy as np
import tensorflow as tf
from PIL import Image
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact_utils, channel, standard_artifacts

from components.artifacts import Verdict
from components.backbone import feature_vector, frozen_pass
from components.drift_gate.component import DriftGate, read_photos
from components.drift_gate.drift import Photos, judge, stop_if_told
from components.drift_gate.settings import DriftSettings
from components.transform.image_ops import photos_to_unit_range
from components.window.component import ChosenArtifacts
from pipeline.config import DriftConfig
from schemas import features as f
from schemas.errors import BadInput
from schemas.json_records import from_json, to_json
from schemas.verdicts import DriftVerdict
from tests.verdicts import verdict_in

SPLITS = ("train", "eval", "test")
THRESHOLDS = DriftConfig().model_dump_json()
SETTINGS = DriftSettings.model_validate_json(THRESHOLDS)
WIDTH = 8


def record(name, label, vector, brightness=0.5, view=0, width=400, height=300) -> tf.train.Example:
    """As FeatureVectorGen writes it."""
    example = tf.train.Example()
    feature = example.features.feature
    texts = {f.FILE_NAME: name, f.LABEL: label, f.IMAGE_FORMAT: "JPEG", f.CONTENT_HASH: f"{name}'s", f.BREED: ""}
    for key, value in texts.items():
        feature[key].bytes_list.value.append(value.encode())
    for key, value in ((f.WIDTH, width), (f.HEIGHT, height), (f.VIEW, view)):
        feature[key].int64_list.value.append(value)
    feature[f.FEATURE_VECTOR].float_list.value.extend(vector)
    if brightness is not None:
        feature[f.BRIGHTNESS].float_list.value.append(brightness)
    return example


def records_of(rng, count, prefix, swap=False, width=WIDTH, **more) -> list[tf.train.Example]:
    """Photos of two classes whose vectors lie far apart, each class's around its own."""
    found = []
    for i in range(count):
        vector = rng.normal(0, 0.2, width) + np.eye(width)[i % 2]
        found.append(record(f"{prefix}/{i}.jpg", ("cat", "dog")[(i + swap) % 2], vector, **more))
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def make_span(tmp_path, write_records):
    """A function that writes examples as an artifact of FeatureVectorGen: 3 of 5 train, one eval, one test."""

    def make(name, examples):
        artifact = standard_artifacts.Examples()
        artifact.uri = str(tmp_path / name)
        artifact.split_names = artifact_utils.encode_split_names(list(SPLITS))
        parts = [[e for i, e in enumerate(examples) if min(i % 5, 2) == part] for part in (2, 0, 1)]
        for split, part in zip(SPLITS, parts, strict=True):
            write_records(tmp_path / name / f"Split-{split}", part)
        return artifact

    return make


def parameters(settings: DriftSettings) -> dict:
    """Of the component."""
    values = settings.model_dump(exclude_none=True)
    rest = {name: values.pop(name) for name in ("false_alarms", "far_quantile", "listed_photos")}
    return {"thresholds": values, **rest, "seed": 1, "code": "code"}


@pytest.fixture
def gate(tmp_path):
    """Runs the component as TFX does; gives its verdict."""

    def run(new, earlier=None, settings=SETTINGS, verdict=None, **more):
        verdict = verdict or Verdict()
        verdict.uri = str(tmp_path / "verdict")
        inputs = {"feature_vectors": [new]} | ({} if earlier is None else {"earlier_vectors": earlier})
        DriftGate.EXECUTOR_SPEC.executor_class().Do(inputs, {"verdict": [verdict]}, {**parameters(settings), **more})
        return verdict_in(verdict.uri)

    return run


# What is read


def test_photos_are_read_from_every_split(rng, make_span):
    examples = records_of(rng, 20, "a", width=WIDTH)
    examples[3] = record("odd.png", "dog", np.arange(WIDTH), brightness=0.25, width=40, height=90)
    photos = read_photos([make_span("one", examples), make_span("two", records_of(rng, 7, "b"))])
    assert len(photos) == 27
    assert sorted(photos.file_names) == sorted(["odd.png", *(f"a/{i}.jpg" for i in range(20) if i != 3)]
                                               + [f"b/{i}.jpg" for i in range(7)])  # fmt: skip
    at = list(photos.file_names).index("odd.png")
    assert (photos.labels[at], photos.formats[at], photos.hashes[at]) == ("dog", "JPEG", "odd.png's")
    assert (photos.sides[at], photos.brightness[at]) == (60, 0.25)
    np.testing.assert_array_equal(photos.vectors[at], np.arange(WIDTH))


def test_augmented_views_are_not_compared(rng, make_span, gate):
    examples = records_of(rng, 30, "new")
    views = [record(f"new/{i}.jpg", "cat", 9 * np.eye(WIDTH)[5], brightness=0, view=1 + i % 3) for i in range(60)]
    verdict = gate(make_span("new", examples + views), [make_span("old", records_of(rng, 80, "old"))])
    assert (verdict["new_photos"], verdict["action"]) == (30, "go")
    assert verdict["far_photos_found"] <= 1


def test_the_new_span_is_not_compared_with_itself(rng, make_span, gate):
    old, new = make_span("old", records_of(rng, 80, "old")), make_span("new", records_of(rng, 20, "new"))
    assert gate(new, [old, new])["earlier_photos"] == 80


def test_spans_from_before_the_brightness_was_recorded_are_compared_in_the_rest(rng, make_span, gate):
    old = make_span("old", records_of(rng, 80, "old", brightness=None))
    checks = gate(make_span("new", records_of(rng, 20, "new")), [old])["checks"]
    assert "not recorded" in checks["brightness"]["text"]
    assert checks["feature_distance"]["distance"] is not None


@pytest.mark.parametrize("widths", [(4, WIDTH, WIDTH), (WIDTH, WIDTH, 4)], ids=str)
def test_vectors_of_two_backbones_are_refused(rng, make_span, gate, widths):
    new, *old = (make_span(f"{i}", records_of(rng, 20, "a", width=width)) for i, width in enumerate(widths))
    with pytest.raises(BadInput, match=r"have \d values in one span and \d in another; expected one backbone"):
        gate(new, old)


# What is said


@pytest.mark.parametrize("earlier", [None, []], ids=["absent", "empty"])
def test_a_first_span_has_nothing_to_be_compared_with(rng, make_span, gate, earlier):
    verdict = gate(make_span("new", records_of(rng, 20, "new")), earlier)
    assert (verdict["action"], verdict["new_photos"], verdict["earlier_photos"]) == ("go", 20, 0)
    assert "no earlier photos" in verdict["text"]


def test_a_span_like_the_earlier_ones_goes_on(rng, make_span, gate):
    old = [make_span(f"old-{i}", records_of(rng, 40, f"old-{i}")) for i in range(3)]
    verdict = gate(make_span("new", records_of(rng, 20, "new")), old)
    assert (verdict["action"], verdict["earlier_photos"]) == ("go", 120)
    assert "the 120 earlier" in verdict["text"]


def test_noted_drift_goes_on(rng, make_span, gate):
    old = make_span("old", records_of(rng, 80, "old", brightness=0.5))
    verdict = gate(make_span("new", records_of(rng, 20, "new", brightness=0.2)), [old])
    assert verdict["action"] == "note"
    assert "in mean brightness: 0.20 (0.50 before) (distance 0.30, by chance up to 0.11, " in verdict["text"]


def test_a_stop_is_one_sentence_and_leaves_its_verdict(rng, make_span, gate, tmp_path):
    old = make_span("old", records_of(rng, 100, "old"))
    with pytest.raises(BadInput) as stopped:
        gate(make_span("new", records_of(rng, 20, "new", swap=True)), [old])
    said = str(stopped.value)
    assert "the 100 earlier" in said
    assert "10 'cat' like 'dog', 10 'dog' like 'cat'" in said
    assert said.endswith("or let it pass with drift.class_feature_distance.stop=null")
    verdict = verdict_in(str(tmp_path / "verdict"))
    assert verdict["action"] == "stop"
    assert verdict["text"] in said


def test_a_stop_that_is_left_to_others_is_found_again(rng, make_span, gate):
    old, new = make_span("old", records_of(rng, 100, "old")), make_span("new", records_of(rng, 20, "new", swap=True))
    artifact = Verdict()
    verdict = gate(new, [old], verdict=artifact, stops=0)
    assert verdict["action"] == "stop"
    found = [artifact.get_string_custom_property(name) for name in ("action", "vectors", "thresholds")]
    assert found == ["stop", new.uri, THRESHOLDS]
    with pytest.raises(BadInput, match="the drift gate stopped the new span"):
        stop_if_told(from_json(DriftVerdict, verdict))


def test_what_was_stopped_passes_when_that_is_said(rng, make_span, gate):
    without_stop = SETTINGS.class_feature_distance.model_copy(update={"stop": None})
    settings = SETTINGS.model_copy(update={"class_feature_distance": without_stop})
    old = make_span("old", records_of(rng, 100, "old"))
    verdict = gate(make_span("new", records_of(rng, 20, "new", swap=True)), [old], settings)
    assert verdict["action"] == "note"


# In a pipeline


@pytest.mark.slow
@pytest.mark.parametrize("wiring", ["absent", "several", "resolved", "resolved to nothing"])
def test_tfx_hands_over_any_number_of_earlier_spans(rng, make_span, tmp_path, wiring):
    spans = [make_span(f"span-{i}", records_of(rng, 40, f"span-{i}")) for i in range(3)]
    *old, new = [
        Importer(
            source_uri=span.uri,
            artifact_type=standard_artifacts.Examples,
            properties={"split_names": span.split_names},
        ).with_id(f"Span{i}")
        for i, span in enumerate(spans)
    ]
    nodes, inputs = [*old, new], {}
    if wiring == "several":
        inputs["earlier_vectors"] = channel.union([node.outputs["result"] for node in old])
    elif wiring.startswith("resolved"):
        nodes.append(
            Resolver(
                strategy_class=ChosenArtifacts,
                config={"ids": {"vectors": [1, 2] if wiring == "resolved" else []}},
                vectors=channel.union([node.outputs["result"] for node in old]),
            ).with_id("EarlierSpans")
        )
        inputs["earlier_vectors"] = nodes[-1].outputs["vectors"]
    gate = DriftGate(feature_vectors=new.outputs["result"], **parameters(SETTINGS), **inputs)
    connection = metadata.sqlite_metadata_connection_config(str(tmp_path / "metadata.sqlite"))
    LocalDagRunner().run(
        Pipeline("drift", str(tmp_path / "root"), components=[*nodes, gate], metadata_connection_config=connection)
    )
    with metadata.Metadata(connection) as handler:
        [verdict] = handler.store.get_artifacts_by_type(Verdict.TYPE_NAME)
    expected = 80 if wiring in ("several", "resolved") else 0
    assert verdict_in(verdict.uri)["earlier_photos"] == expected
    assert verdict_in(verdict.uri)["new_photos"] == 40


# Real photos


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def darkened(photo: bytes) -> bytes:
    return encoded(Image.open(io.BytesIO(photo)).convert("RGB").point(lambda value: value // 2))


def shrunk(photo: bytes) -> bytes:
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    return encoded(image.resize((max(image.width // 4, 1), max(image.height // 4, 1))))


def noise(photo: bytes) -> bytes:
    seed = int.from_bytes(photo[-8:], "big")
    size = Image.open(io.BytesIO(photo)).size[::-1]
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)))


def landscape(photo: bytes) -> bytes:
    """Sky above and hills below, of the photo's size."""
    rng = np.random.default_rng(int.from_bytes(photo[-8:], "big"))
    width, height = Image.open(io.BytesIO(photo)).size
    y, x = np.mgrid[:height, :width] / height
    picture = np.stack([90 + 60 * y, 140 + 50 * y, 200 + 30 * y], -1)
    for hill in range(3):
        ridge = 0.45 + 0.17 * hill + sum(rng.normal(0, 0.05) * np.sin(x * rng.uniform(1, 12)) for _ in range(4))
        colour = rng.uniform([60, 90, 50], [90, 140, 80]) * (1 - 0.2 * hill)
        picture = np.where((y > ridge)[..., np.newaxis], colour, picture)
    return encoded(Image.fromarray(np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)))


@pytest.fixture(scope="module")
def compared(shared_data):
    """A function from (name, label, bytes) of photos to what is compared of them, by the built-in backbone."""
    module = feature_vector.load(str(feature_vector.resolve("efficientnet_lite0")), 160)
    backbone = frozen_pass.build(module, 160)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def decode(photos):
        return photos_to_unit_range(photos, 160, "bilinear", False)

    def make(photos) -> Photos:
        names, labels, contents = map(list, zip(*photos, strict=True))
        vectors, brightness = [], []
        for start in range(0, len(photos), 32):
            images = decode(tf.constant(contents[start : start + 32]))
            vectors.append(backbone.call(images)[0].numpy())
            brightness.append(tf.reduce_mean(images, [1, 2, 3]).numpy())
        sizes = np.array([Image.open(io.BytesIO(content)).size for content in contents])
        return Photos(
            labels=labels,
            formats=["JPEG"] * len(photos),
            sides=np.sqrt(sizes.prod(axis=1)),
            brightness=np.concatenate(brightness),
            vectors=np.concatenate(vectors),
            file_names=names,
            hashes=names,
        )

    return make


@pytest.fixture(scope="module")
def real_photos(shared_data):
    """360 photos of cats and dogs in turn: 40 new ones, and those of before."""
    photos = [
        (f"{label}.{i}.jpg", label, (shared_data / "cats_vs_dogs" / label / f"{label}.{i}.jpg").read_bytes())
        for i in range(180)
        for label in ("cat", "dog")
    ]
    return photos[:40], photos[40:]


@pytest.fixture(scope="module")
def real_earlier(real_photos, compared):
    return compared(real_photos[1])


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("count", [20, 40])
@pytest.mark.parametrize(
    ("change", "action", "told"),
    [
        (None, "go", set()),
        ("wrong labels", "stop", {"class_feature_distance"}),
        (landscape, "stop", {"feature_distance", "class_feature_distance"}),
        (noise, "stop", {"feature_distance", "class_feature_distance"}),
        (darkened, "note", {"brightness"}),
        (shrunk, "note", {"image_size"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_real_photos(real_photos, real_earlier, compared, count, change, action, told):
    photos = real_photos[0][:count]
    if change == "wrong labels":
        photos = [(name, {"cat": "dog", "dog": "cat"}[label], content) for name, label, content in photos]
    elif change is not None:
        photos = [(name, label, change(content)) for name, label, content in photos]
    verdict = to_json(judge(compared(photos), real_earlier, SETTINGS, seed=1))
    drifted = {name for name, check in verdict["checks"].items() if check["drifted"]}
    assert verdict["action"] == action
    assert told <= drifted
    if change in (None, "wrong labels"):
        assert told == drifted
    if change in (landscape, noise):
        assert verdict["far_photos_found"] > 0.9 * count
