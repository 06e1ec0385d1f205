"""A photo has the same numbers wherever it is read: in training, as a stored vector and in every served signature."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from components.backbone.layer import FeatureVector
from components.feature_vector_gen.component import FeatureVectorGen
from components.records import read_examples, split_files, text
from components.trainer.training_data import read_photos
from components.trainer.warm_start import read_source
from components.transform import image_ops
from components.transform.graph import load_transform
from deploy.prediction import Model, predict
from schemas import features as f

SIZE = 16
LABELS = ["cat", "dog"]
TOLERANCE = 1e-5
IMAGE_PATHS = ["tf.data", "Transform graph", "training batches", "transform_features"]
VECTOR_PATHS = ["stored feature vectors", "feature_vector"]
PROBABILITY_PATHS = ["serve_examples", "serving_default"]
EVERY_PATH = [*IMAGE_PATHS, *VECTOR_PATHS, *PROBABILITY_PATHS]


def to_unit_range(photo_bytes):
    return image_ops.photo_to_unit_range(photo_bytes, SIZE, "bilinear", antialias=False)


class Paths(NamedTuple):
    """Every way a photo is read, as functions of photos to what comes out, float32 [photos, ...]."""

    expected: dict[str, np.ndarray]  # path -> from one photo at a time through eager image_ops
    found: dict[str, np.ndarray]  # path -> from all photos together
    one_by_one: dict[str, np.ndarray]  # path -> the same, one photo at a time


@pytest.fixture(scope="module")
def stored_vectors(odd_photos, examples, tmp_path_factory, write_records, transform_graph, tiny_backbone):
    """File name -> vector, through the component's own function on a Beam pipeline, in two splits."""
    folder = tmp_path_factory.mktemp("feature_vector_gen")
    photos, vectors, graph = (
        standard_artifacts.Examples(),
        standard_artifacts.Examples(),
        standard_artifacts.TransformGraph(),
    )
    photos.uri, vectors.uri, graph.uri = str(folder / "photos"), str(folder / "vectors"), transform_graph
    photos.split_names = artifact_utils.encode_split_names(["train", "eval"])
    write_records(folder / "photos" / "Split-train", examples[:-1])
    write_records(folder / "photos" / "Split-eval", examples[-1:])
    FeatureVectorGen.EXECUTOR_SPEC.executor_class._FUNCTION(
        examples=photos,
        transform_graph=graph,
        schema=None,
        feature_vectors=vectors,
        backbone=tiny_backbone,
        backbone_fingerprint="",
        image_size=SIZE,
        transform_fingerprint="",
        store="",
        code="",
        beam_pipeline=beam.Pipeline(runner=FnApiRunner()),
    )
    stored = [list(read_examples(split_files(vectors, split))) for split in ("train", "eval")]
    assert [len(split) for split in stored] == [len(examples) - 1, 1]
    for example in stored[0] + stored[1]:
        assert f.IMAGE not in example.features.feature
    return {
        text(example, f.FILE_NAME): np.array(example.features.feature[f.FEATURE_VECTOR].float_list.value, np.float32)
        for example in stored[0] + stored[1]
    }


@pytest.fixture(scope="module")
def examples(odd_photos, make_example, drawn_photos):
    photo = drawn_photos[0]
    return [make_example(photo._replace(name=kind, photo_bytes=odd_photos[kind])) for kind in odd_photos]


@pytest.fixture(scope="module")
def paths(
    odd_photos,
    examples,
    stored_vectors,
    tmp_path_factory,
    write_records,
    transform_graph,
    tiny_backbone,
    exported_model,
):
    photos = list(odd_photos.values())
    records = [example.SerializeToString() for example in examples]
    transform = load_transform(transform_graph)
    records_file = write_records(tmp_path_factory.mktemp("training"), examples)
    signatures = tf.saved_model.load(exported_model).signatures

    def in_tf_data(photos):
        return np.stack([*tf.data.Dataset.from_tensor_slices(photos).map(to_unit_range).as_numpy_iterator()])

    def in_training(batch_size):
        batches = read_photos([records_file], transform, LABELS).in_order(batch_size).as_numpy_iterator()
        return np.concatenate([images for images, _, _ in batches])

    def served(signature, output, inputs):
        argument = {"image_bytes": tf.constant(inputs)} if inputs[0] in photos else {"examples": tf.constant(inputs)}
        return signatures[signature](**argument)[output].numpy()

    together = {
        "tf.data": lambda rows: in_tf_data(photos[rows]),
        "Transform graph": lambda rows: transform(tf.constant(photos[rows])).numpy(),
        "transform_features": lambda rows: served("transform_features", f.IMAGE, records[rows]),
        "feature_vector": lambda rows: served("feature_vector", "feature_vector", photos[rows]),
        "serve_examples": lambda rows: served("serve_examples", "probabilities", records[rows]),
        "serving_default": lambda rows: served("serving_default", "probabilities", photos[rows]),
    }
    found = {path: read(slice(None)) for path, read in together.items()}
    one_by_one = {
        path: np.concatenate([read(slice(i, i + 1)) for i in range(len(photos))]) for path, read in together.items()
    }
    found["training batches"], one_by_one["training batches"] = in_training(4), in_training(1)
    found["stored feature vectors"] = np.stack([stored_vectors[kind] for kind in odd_photos])

    # What each must be: eager ops, the backbone as the layer runs it, and the head in plain numpy.
    images = np.stack([to_unit_range(tf.constant(photo)).numpy() for photo in photos])
    backbone = FeatureVector(tiny_backbone)
    vectors = np.concatenate([backbone(image[np.newaxis]).numpy() for image in images])
    variables = read_source(exported_model).values
    logits = vectors @ variables["head/kernel:0"] + variables["head/bias:0"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = dict.fromkeys(IMAGE_PATHS, images)
    expected |= dict.fromkeys(VECTOR_PATHS, vectors)
    expected |= dict.fromkeys(PROBABILITY_PATHS, probabilities)
    return Paths(expected, found, one_by_one)


def largest_differences(kinds, found, expected):
    assert found.shape == expected.shape
    return {kind: float(np.abs(a - b).max()) for kind, a, b in zip(kinds, found, expected, strict=True)}


@pytest.mark.parametrize("path", EVERY_PATH)
def test_the_numbers_are_those_of_the_eager_ops(paths, odd_photos, path):
    differences = largest_differences(odd_photos, paths.found[path], paths.expected[path])
    assert max(differences.values()) <= TOLERANCE, differences


@pytest.mark.parametrize("path", [path for path in EVERY_PATH if path != "stored feature vectors"])
def test_a_batch_of_one_equals_a_batch_of_many(paths, odd_photos, path):
    differences = largest_differences(odd_photos, paths.one_by_one[path], paths.found[path])
    assert max(differences.values()) <= TOLERANCE, differences


def test_the_photos_differ_enough_for_the_comparison_to_mean_something(paths, odd_photos):
    """No two photos agree anywhere, the turned photo is turned, and the grey one is grey."""
    for name in ("Transform graph", "feature_vector", "serving_default"):
        values = paths.expected[name].reshape(len(odd_photos), -1)
        for i in range(len(values)):
            others = np.delete(values, i, axis=0)
            assert np.abs(others - values[i]).max(axis=1).min() > 100 * TOLERANCE, (name, i)
    images = dict(zip(odd_photos, paths.expected["Transform graph"], strict=True))
    stored = tf.image.resize(image_ops.decode_image(tf.constant(odd_photos["turned_jpeg"])), [SIZE, SIZE]) / 255
    np.testing.assert_allclose(images["turned_jpeg"], np.rot90(stored, -1), atol=1e-6)
    assert np.ptp(images["grey_jpeg"], axis=-1).max() < 1e-6 < np.ptp(images["jpeg"], axis=-1).max()


def cut_out(subject: Image.Image, hidden: Image.Image) -> bytes:
    """The middle of `subject`, and `hidden` around it, where it is transparent."""
    width, height = subject.size
    mask = Image.new("L", subject.size)
    mask.paste(255, (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    picture = Image.composite(subject, hidden, mask)
    picture.putalpha(mask)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_what_looks_the_same_is_answered_the_same(
    drawn_photos, transform_graph, exported_model, make_example, tmp_path
):
    """Whatever lies below the transparent part: black, noise or the photo; as with the picture that a viewer shows."""
    subject = Image.open(io.BytesIO(drawn_photos[0].photo_bytes)).convert("RGB")
    noise = np.random.default_rng(0).integers(0, 256, (subject.height, subject.width, 3)).astype(np.uint8)
    photos = [cut_out(subject, hidden) for hidden in (Image.new("RGB", subject.size), Image.fromarray(noise), subject)]
    transparent = Image.open(io.BytesIO(photos[0]))
    shown, buffer = Image.alpha_composite(Image.new("RGBA", subject.size, "white"), transparent), io.BytesIO()
    shown.convert("RGB").save(buffer, "PNG")
    photos.append(buffer.getvalue())
    examples = [make_example(drawn_photos[0]._replace(photo_bytes=photo)).SerializeToString() for photo in photos]
    signatures = tf.saved_model.load(exported_model).signatures
    files = [tmp_path / f"{i}.png" for i in range(len(photos))]
    for file, photo in zip(files, photos, strict=True):
        file.write_bytes(photo)
    answers = list(predict(Model(Path(exported_model)), [str(file) for file in files]))
    assert [answer.error for answer in answers] == [""] * 4
    seen = {
        "Transform graph": load_transform(transform_graph)(tf.constant(photos)).numpy(),
        "transform_features": signatures["transform_features"](examples=tf.constant(examples))[f.IMAGE].numpy(),
        "serving_default": signatures["serving_default"](image_bytes=tf.constant(photos))["probabilities"].numpy(),
        "serve_examples": signatures["serve_examples"](examples=tf.constant(examples))["probabilities"].numpy(),
        "predict": np.array([list((answer.probabilities or {}).values()) for answer in answers]),
    }
    for path, values in seen.items():
        assert np.abs(values[:3] - values[3]).max() < 1e-3, path
    opaque = [tf.io.decode_jpeg(photo, channels=3).numpy().astype(float) for photo in photos]
    assert min(np.abs(one - opaque[3]).mean() for one in opaque[:3]) > 50, "below the transparent part they differ"


def test_the_answer_names_the_most_probable_class(paths, odd_photos, exported_model):
    photos = tf.constant(list(odd_photos.values()))
    answer = tf.saved_model.load(exported_model).signatures["serving_default"](image_bytes=photos)
    probabilities = paths.expected["serving_default"]
    assert [label.decode() for label in answer["label"].numpy()] == [LABELS[i] for i in probabilities.argmax(axis=1)]
    np.testing.assert_allclose(answer["probability"], probabilities.max(axis=1), atol=TOLERANCE)
    assert set(probabilities.argmax(axis=1)) == {0, 1}, "both classes must be answered for this to mean something"
