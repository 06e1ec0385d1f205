"""Keras applications as feature vectors: equal to Keras, weights from everywhere, written whole or not at all.

The expected values come from `tf_keras.applications` called in its own way, at a fixed size, with the preprocessing
written out here. Random weights of one seed stand for both. VGG16 is the quickest of the real ones; where it does not
matter which network it is, two convolutions stand in for MobileNetV2.
"""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone import feature_vector, keras_applications, registry
from components.backbone.layer import FeatureVector
from components.legacy_keras import tf_keras
from deploy.cli import main
from schemas.errors import BadInput

VGG16 = registry.KERAS_APPLICATIONS["VGG16"]
MOBILE_NET = registry.KERAS_APPLICATIONS["MobileNetV2"]
WIDTHS = {"VGG16": 512, "VGG19": 512, "InceptionV3": 2048, "ResNet50": 2048, "Xception": 2048, "MobileNetV2": 1280}
BLUE_GREEN_RED_MEANS = [103.939, 116.779, 123.68]  # of ImageNet

pytestmark = pytest.mark.slow  # tracing many graphs takes its time


def photos(height: int, width: int) -> np.ndarray:
    """float32 [2, height, width, 3], range [0, 1], more red than blue."""
    return np.random.default_rng(5).random([2, height, width, 3], np.float32) * np.float32([1.0, 0.7, 0.4])


def preprocessed(name: str, images: np.ndarray) -> np.ndarray:
    if name in ("VGG16", "VGG19", "ResNet50"):
        return (255 * images)[..., ::-1] - np.float32(BLUE_GREEN_RED_MEANS)
    return 2 * images - 1


def reference(name: str, images: np.ndarray, pooling: str | None, seed: int = keras_applications.DEFAULT_SEED):
    """Features of the application as Keras builds it for images of this size, with random weights of `seed`."""
    tf_keras.utils.set_random_seed(seed)
    application = getattr(tf_keras.applications, name)
    model = application(include_top=False, weights=None, input_shape=images.shape[1:], pooling=pooling)
    return model(preprocessed(name, images)).numpy()


def assert_equal_features(found, expected):
    assert found.shape == expected.shape
    largest = np.max(np.abs(expected))
    assert largest > 0
    assert np.max(np.abs(found - expected)) <= 1e-4 * largest


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function from a name and a pooling to (what `export` says, its folder), with random weights."""

    @functools.cache
    def export(name: str, pooling: str = "avg", size: int | None = None):
        folder = tmp_path_factory.mktemp(name) / "new" / "module"
        return keras_applications.export(name, folder, "none", pooling, size), folder

    return export


def small_network(include_top=True, weights=None, input_shape=(224, 224, 3), pooling=None):
    """Two convolutions and a batch norm, with the arguments of a Keras application."""
    layers = tf_keras.layers
    images = layers.Input(input_shape)
    x = layers.Conv2D(8, 3, 4, activation="relu", name="first")(images)
    x = layers.BatchNormalization(name="first_bn")(x)
    x = layers.Conv2D(16, 3, 2, activation="relu", name="second")(x)
    if include_top or pooling == "avg":
        x = layers.GlobalAveragePooling2D()(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D()(x)
    if include_top:
        x = layers.Dense(1000, name="predictions")(x)
    return tf_keras.Model(images, x)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(tf_keras.applications, "MobileNetV2", small_network)


# Equal to Keras

release = pytest.mark.release


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "VGG16" else release) for name in registry.KERAS_APPLICATIONS]
)
def test_an_export_equals_keras_with_its_preprocessing_by_hand(exported, name):
    export, folder = exported(name)
    assert export.application.name == name
    assert export.width == WIDTHS[name] == feature_vector.check_feature_vector(folder)
    assert export.size is None
    assert export.difference <= 1e-4
    images = photos(96, 128)
    assert_equal_features(hub.KerasLayer(str(folder))(images).numpy(), reference(name, images, "avg"))


def test_the_preprocessing_is_not_left_out(exported):
    images = photos(96, 96)
    bare = keras_applications.build(VGG16, "none")
    found = hub.KerasLayer(str(exported("VGG16")[1]))(images)
    assert np.max(np.abs(found - bare(images))) > 0.01 * np.max(np.abs(found))


@pytest.mark.slow
@pytest.mark.release
def test_max_pooling(exported):
    export, folder = exported("VGG16", "max", 64)
    images = photos(64, 64)
    assert (export.width, export.size) == (512, 64)
    assert_equal_features(hub.KerasLayer(str(folder))(images).numpy(), reference("VGG16", images, "max"))


@pytest.mark.slow
@pytest.mark.release
def test_flattening_keeps_the_places_and_fixes_the_size(exported):
    export, folder = exported("VGG16", "flatten", 64)
    images = photos(64, 64)
    assert (export.width, export.size) == (2 * 2 * 512, 64)
    expected = reference("VGG16", images, None).reshape([2, -1])
    assert_equal_features(hub.KerasLayer(str(folder))(images).numpy(), expected)
    with pytest.raises(BadInput, match=r"does not take float32 \[2, 160, 160, 3\] .*its inputs: \(None, 64, 64, 3\)"):
        feature_vector.load(folder, 160)


def test_a_size_can_be_fixed_or_left_open():
    assert keras_applications.build(VGG16, "none", "flatten").input_shape == (None, 224, 224, 3)
    assert keras_applications.build(VGG16, "none", "avg", 96).input_shape == (None, 96, 96, 3)
    assert keras_applications.build(VGG16, "none", "max").input_shape == (None, None, None, 3)


@pytest.mark.parametrize("name", registry.KERAS_APPLICATIONS)
def test_sizes_too_small_are_refused_as_keras_refuses_them(name):
    application = registry.KERAS_APPLICATIONS[name]
    smallest = application.minimum_size
    with pytest.raises(BadInput, match=f"at least {smallest} pixels"):
        keras_applications.build(application, "none", "avg", smallest - 1)
    with pytest.raises(ValueError, match=f"at least {smallest}x{smallest}"):
        getattr(tf_keras.applications, name)(
            include_top=False, weights=None, input_shape=(smallest - 1, smallest - 1, 3)
        )


def test_an_export_that_differs_is_not_kept(small, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_applications, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(BadInput, match="The export of MobileNetV2 differs from the Keras model by nan of the largest"):
        keras_applications.export("mobilenetv2", tmp_path / "module", "none")
    assert list(tmp_path.iterdir()) == []


# Fine-tuning


def assert_only_the_top_moves(folder: Path, kernel_count: int, top: int, moving_averages: int):
    kernels = [v.name for v in tf.saved_model.load(str(folder)).trainable_variables if v.shape.rank > 1]
    assert len(kernels) == len(set(kernels)) == kernel_count
    learning = set(kernels[-top:])
    layer = FeatureVector(str(folder), learning)
    images = tf_keras.Input([96, 96, 3])
    model = tf_keras.Model(images, tf_keras.layers.Dense(2)(layer(images)))
    before = {v.name: v.numpy() for v in layer.variables}
    # Random weights without batch statistics give vectors near 0, and gradients that plain steps would round away.
    optimizer = tf_keras.optimizers.Adam(epsilon=1e-30)
    model.compile(optimizer, tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(photos(96, 96), np.array([0, 1]), epochs=2, verbose=0)
    assert {v.name for v in layer.variables if not np.array_equal(before[v.name], v.numpy())} == learning
    assert sum("/moving_" in name for name in before) == moving_averages


def test_the_top_is_fine_tuned_and_no_moving_average_moves(small, tmp_path):
    keras_applications.export("MobileNetV2", tmp_path / "module", "none")
    assert_only_the_top_moves(tmp_path / "module", kernel_count=2, top=1, moving_averages=2)


@pytest.mark.slow
@pytest.mark.release
def test_the_top_of_a_real_one_is_fine_tuned_and_no_moving_average_moves(exported):
    assert_only_the_top_moves(exported("MobileNetV2")[1], kernel_count=52, top=10, moving_averages=104)


# Weights


def assert_same_weights(model, expected):
    for ours, theirs in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def written(model, file: Path) -> str:
    (model.save if file.name.startswith("model") else model.save_weights)(str(file))
    return str(file)


@pytest.mark.parametrize("name", ["w.h5", "w.hdf5", "w.weights.h5", "model.h5", "model.keras"])
def test_weights_from_a_file_of_any_kind(small, tmp_path, name):
    other = keras_applications.build(MOBILE_NET, "none", seed=11)
    own = keras_applications.build(MOBILE_NET, "none")
    assert not np.array_equal(own.weights[0].numpy(), other.weights[0].numpy())
    assert_same_weights(keras_applications.build(MOBILE_NET, written(other, tmp_path / name)), other)


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "model.h5", "model.keras"])
def test_the_head_of_a_file_is_left_out(small, tmp_path, name):
    tf_keras.utils.set_random_seed(12)
    whole = small_network()
    below_the_head = tf_keras.Model(whole.input, whole.layers[-2].output)
    assert len(whole.weights) == len(below_the_head.weights) + 2
    assert_same_weights(keras_applications.build(MOBILE_NET, written(whole, tmp_path / name)), below_the_head)


@release
@pytest.mark.parametrize("name", ["InceptionV3", "Xception", "ResNet50"])
def test_the_head_of_a_real_one_is_left_out(tmp_path, name):
    tf_keras.utils.set_random_seed(12)
    whole = getattr(tf_keras.applications, name)(weights=None)
    file = written(whole, tmp_path / "w.h5")
    model = keras_applications.build(registry.KERAS_APPLICATIONS[name], file)
    assert len(model.weights) == len(whole.weights) - 2
    for ours, theirs in zip(model.weights, whole.weights, strict=False):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_an_export_with_weights_from_a_file_equals_keras_with_them(small, tmp_path):
    tf_keras.utils.set_random_seed(11)
    model = small_network(include_top=False, input_shape=(None, None, 3), pooling="max")
    export = keras_applications.export("mobilenetv2", tmp_path / "module", written(model, tmp_path / "w.h5"), "max")
    images = photos(64, 96)
    assert (export.application, export.width) == (MOBILE_NET, 16)
    found = hub.KerasLayer(str(tmp_path / "module"))(images).numpy()
    assert_equal_features(found, model(preprocessed("MobileNetV2", images)).numpy())


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "model.keras"])
def test_weights_of_another_model_are_one_sentence(small, tmp_path, name):
    other = tf_keras.Sequential([tf_keras.layers.Input([8, 8, 3]), tf_keras.layers.Conv2D(4, 3)])
    file = written(other, tmp_path / name)
    with pytest.raises(BadInput, match=rf"^Weights {file} do not fit MobileNetV2 \(.+\): give a file that [^\n]+$"):
        keras_applications.export("MobileNetV2", tmp_path / "module", file)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@release
@pytest.mark.parametrize(
    ("sibling", "application", "name"),
    [("VGG19", "VGG16", "w.h5"), ("VGG19", "VGG16", "w.weights.h5"), ("ResNet101", "ResNet50", "w.weights.h5")],
)
def test_the_weights_of_a_sibling_are_refused(tmp_path, sibling, application, name):
    model = getattr(tf_keras.applications, sibling)(include_top=False, weights=None)
    with pytest.raises(BadInput, match=f"do not fit {application}"):
        keras_applications.build(registry.KERAS_APPLICATIONS[application], written(model, tmp_path / name))


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "model.keras"])
def test_a_damaged_file_is_one_sentence(small, tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no weights file" * 100)
    with pytest.raises(BadInput, match=r"^Weights [^\n]+ do not fit MobileNetV2 \([^\n]+$"):
        keras_applications.build(MOBILE_NET, str(tmp_path / name))


# Weights that Keras downloads


@pytest.fixture
def keras_cache(tmp_path, monkeypatch):
    """An empty cache of Keras, and every address of weights on a port of this machine where nobody listens."""
    home = tmp_path / "home"
    cache = home / ".keras" / "models"
    cache.mkdir(parents=True)  # Keras takes another folder where this one is absent
    monkeypatch.setenv("HOME", str(home))
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    module = tf_keras.src.applications.mobilenet_v2
    assert module.BASE_WEIGHT_PATH.startswith("https://")
    monkeypatch.setattr(module, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    return cache


def test_offline_is_one_sentence_and_writes_nothing(keras_cache, tmp_path):
    expected = (
        r"^The ImageNet weights of MobileNetV2 could not be downloaded \(.*127\.0\.0\.1:9/.*refused\): give --weights "
        r"FILE for a file that you have, or --weights none for random weights\.$"
    )
    with pytest.raises(BadInput, match=expected):
        keras_applications.export("MobileNetV2", tmp_path / "new" / "module")
    assert not (tmp_path / "new").exists()
    assert list(keras_cache.iterdir()) == []


@pytest.mark.slow
@pytest.mark.release
def test_downloaded_weights_are_used(keras_cache, tmp_path, monkeypatch):
    other_weights = keras_applications.build(MOBILE_NET, "none", seed=11)
    served = tmp_path / "served"
    served.mkdir()
    other_weights.save_weights(str(served / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(tf_keras.src.applications.mobilenet_v2, "BASE_WEIGHT_PATH", address)
        assert_same_weights(keras_applications.build(MOBILE_NET, "imagenet"), other_weights)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert len(list(keras_cache.iterdir())) == 1


# The target, and the command


def test_an_existing_target_is_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(BadInput, match=f"{name} already exists: give another folder, or remove it"):
            keras_applications.export("MobileNetV2", tmp_path / name, "none")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]


def test_a_target_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file/module cannot be written \(.*Not a directory.*\): give another folder"):
        keras_applications.export("MobileNetV2", tmp_path / "file" / "module", "none")


def test_the_command_compares_and_says_what_to_do_next(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["export", "mobilenet_v2", "backbones/small", "--weights", "none", "--pooling", "flatten"]
    shown = CliRunner().invoke(main, ["backbone", *arguments, "--size", "32"])
    assert shown.exit_code == 0, shown.output
    first, second, third, last = shown.output.splitlines()[-4:]
    assert first == "MobileNetV2: feature vector 144 wide (flatten), 0.0 M parameters, images of 32 pixels"
    assert second.startswith("equal to the Keras model: the largest difference is ")
    assert third.startswith("its weights are random")
    assert last.endswith(" --set backbone.handle=./backbones/small --set image.size=32")
    assert [path.name for path in Path("backbones").iterdir()] == ["small"]
    assert registry.check_handle("./backbones/small") is None
    assert feature_vector.check_feature_vector("./backbones/small", 32) == 144
