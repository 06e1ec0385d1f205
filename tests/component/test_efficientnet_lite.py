"""EfficientNet-Lite: equal to PyTorch, fine-tunable through hub.KerasLayer, converted once and safely.

`GOLDEN` holds what separate programs over the same .pth files (TensorFlow's SAME padding, batch normalisation with
epsilon 1e-3, ReLU6) give on `waves(size)`. Lite0's is of PyTorch 2.13 with torch.nn.functional; in float64 it gives
the same numbers to 8e-6. Those of Lite1 and Lite2 are of NumPy in float64, which gives Lite0's to 1e-5.
"""

import functools
import io
import multiprocessing
import re
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone import efficientnet_lite, feature_vector, registry, saved_feature_vector
from components.backbone.torch_checkpoint import read_torch_checkpoint
from schemas.errors import BadInput

LITE0 = registry.BACKBONES["efficientnet_lite0"]
LITE1 = registry.BACKBONES["efficientnet_lite1"]
LITE2 = registry.BACKBONES["efficientnet_lite2"]
ALL = pytest.mark.parametrize("backbone", registry.BACKBONES.values(), ids=lambda backbone: backbone.name)

ELEMENTS = {
    LITE0: [4, 73, 190, 302, 405, 504, 595, 701, 852, 944, 1054, 1165],
    LITE1: [26, 118, 221, 339, 468, 599, 713, 830, 940, 1028, 1130, 1264],
    LITE2: [18, 125, 240, 344, 467, 610, 738, 850, 944, 1070, 1165, 1269],
}
GOLDEN = {
    (LITE0, 160): {
        "elements": "0.523953 0.199707 1.638868 0.091905 0.724352 1.270600 "
        "0.879510 0.334434 0.251126 0.214891 1.244389 0.222666",
        "mean": 0.14881077,
        "norm": 18.768483,
        "classes": [906, 641, 398, 392, 722],
        "logits": "7.119067 5.625505 5.579590 5.273518 4.507514",
    },
    (LITE0, 224): {
        "elements": "0.237487 0.086961 0.793566 0.500046 1.806033 1.714152 "
        "0.451225 0.512246 0.423896 0.312612 0.834117 0.358700",
        "mean": 0.14233338,
        "norm": 18.139822,
        "classes": [906, 885, 911, 392, 398],
        "logits": "8.155275 5.731035 5.472521 4.591295 4.535071",
    },
    (LITE1, 160): {
        "elements": "0.592824 0.182967 0.534975 0.539735 0.272453 3.618378 "
        "0.494973 3.414186 0.304088 0.235609 0.845014 2.043465",
        "mean": 0.19856687,
        "norm": 23.705099,
        "classes": [906, 398, 699, 902, 811],
        "logits": "9.199794 6.830424 6.288311 6.126059 5.690238",
    },
    (LITE1, 240): {
        "elements": "0.483147 0.861443 0.167744 1.054795 0.106837 3.154024 "
        "0.797202 2.370633 1.212531 0.177636 0.676709 2.950987",
        "mean": 0.18497130,
        "norm": 20.547214,
        "classes": [906, 885, 699, 641, 911],
        "logits": "9.964281 7.571527 5.874196 5.703262 5.262077",
    },
    (LITE2, 160): {
        "elements": "1.611960 3.098343 0.277241 0.431175 2.364729 0.057823 "
        "0.133573 0.643405 0.159639 0.242679 0.719256 1.115602",
        "mean": 0.18850409,
        "norm": 19.661352,
        "classes": [772, 906, 699, 641, 723],
        "logits": "6.176053 5.487963 5.111608 4.792347 4.587638",
    },
    (LITE2, 260): {
        "elements": "1.767791 2.413413 0.148630 0.216071 2.207234 0.054275 "
        "0.068022 0.584181 0.090340 0.772918 1.045368 1.557405",
        "mean": 0.17988032,
        "norm": 17.332989,
        "classes": [906, 772, 699, 585, 502],
        "logits": "7.129081 5.469957 5.194956 4.488896 4.250214",
    },
}
UNFROZEN = [
    "block7a_expand_conv/kernel:0",
    "block7a_dwconv/depthwise_kernel:0",
    "block7a_project_conv/kernel:0",
    "top_conv/kernel:0",
]


def waves(size: int) -> np.ndarray:
    """A synthetic photo, float32 [1, size, size, 3], range [0, 1], without symmetry in x, y or colour."""
    y, x, channel = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    photo = 0.5 + 0.25 * np.sin(0.11 * x + 0.7 * channel) + 0.25 * np.cos(0.07 * y - 0.05 * x * (channel - 1))
    return photo[None].astype(np.float32)


def numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64)


def assert_golden_features(features, backbone, size):
    golden, features = GOLDEN[backbone, size], np.asarray(features, np.float64)[0]
    np.testing.assert_allclose(features[ELEMENTS[backbone]], numbers(golden["elements"]), atol=1e-4)
    assert features.mean() == pytest.approx(golden["mean"], abs=1e-4)
    assert np.linalg.norm(features) == pytest.approx(golden["norm"], abs=1e-4)


@pytest.fixture(scope="module")
def tensors():
    return read_torch_checkpoint(registry.weights_file(LITE0), LITE0.weights_sha256)


@pytest.fixture(scope="module")
def classifier_of():
    """A function from a built-in backbone to its network with the ImageNet head, converted once."""

    @functools.cache
    def convert(backbone):
        model = efficientnet_lite.build_classifier(backbone.width_coefficient, backbone.depth_coefficient)
        weights = read_torch_checkpoint(registry.weights_file(backbone), backbone.weights_sha256)
        efficientnet_lite.load_torch_weights(model, weights)
        return model

    return convert


@pytest.fixture(scope="module")
def classifier(classifier_of):
    return classifier_of(LITE0)


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """(cache folder, folder of the converted backbone); a leftover of a killed conversion lies beside it."""
    cache = tmp_path_factory.mktemp("cache")
    name = f"efficientnet_lite0-{registry.fingerprint('efficientnet_lite0')[:12]}"
    (cache / "backbones" / f".{name}.0123").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARMSTART_CACHE", str(cache))
        folder = feature_vector.resolve("efficientnet_lite0")
    assert folder == cache / "backbones" / name
    return cache, folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# The architecture and its weights


@pytest.mark.parametrize(("backbone", "size"), GOLDEN, ids=[f"{b.name}-{size}" for b, size in GOLDEN])
def test_features_and_logits_equal_pytorch(classifier_of, backbone, size):
    classifier = classifier_of(backbone)
    golden = GOLDEN[backbone, size]
    assert_golden_features(efficientnet_lite.feature_vector_model(classifier)(waves(size)), backbone, size)
    logits = classifier(waves(size)).numpy()[0]
    best = np.argsort(logits)[::-1][:5]
    assert best.tolist() == golden["classes"]
    np.testing.assert_allclose(logits[best], numbers(golden["logits"]), atol=1e-4)


@pytest.mark.slow
@pytest.mark.release
@ALL
@pytest.mark.parametrize(("kind", "first", "last"), [("cat", 281, 287), ("dog", 151, 268)])
def test_known_photos_are_named(classifier_of, shared_data, backbone, kind, first, last):
    files = [shared_data / "cats_vs_dogs" / kind / f"{kind}.{i}.jpg" for i in range(12)]
    images = [tf.io.decode_jpeg(tf.io.read_file(str(file)), channels=3) for file in files]
    batch = tf.stack([tf.image.resize(image, [backbone.input_size] * 2) / 255 for image in images])
    answers = np.argmax(classifier_of(backbone)(batch), axis=1)
    assert ((first <= answers) & (answers <= last)).sum() >= 9


@ALL
def test_parameters_widths_and_what_is_unfrozen_are_as_registered(classifier_of, backbone):
    model = efficientnet_lite.feature_vector_model(classifier_of(backbone))
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == backbone.parameters
    assert model.output_shape == (None, backbone.width)
    assert [v.name for v in model.trainable_variables if re.match(backbone.unfreeze, v.name)] == UNFROZEN


def test_larger_members_of_the_family_scale_blocks_but_not_stem_and_head():
    lite2 = efficientnet_lite.build_classifier(width_coefficient=1.1, depth_coefficient=1.2)
    kernels = {v.name: tuple(v.shape) for v in lite2.trainable_variables}
    assert kernels["stem_conv/kernel:0"] == (3, 3, 3, 32)
    assert kernels["top_conv/kernel:0"][2:] == (352, 1280)
    assert kernels["block6e_project_conv/kernel:0"][3] == 208
    assert not any(name.startswith(("block1b", "block6f", "block7b")) for name in kernels)
    assert sum(int(np.prod(shape)) for shape in kernels.values()) == 6_092_072  # published: 6.1 million


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.pop("_blocks.3._bn1.bias"), r"lack `_blocks\.3\._bn1\.bias` \(1 tensors missing\)"),
        (lambda t: t.update(extra=np.zeros(1)), r"hold `extra` \(1 tensors unused\)"),
        (
            lambda t: t.update({"_fc.bias": np.zeros(10)}),
            r"`_fc\.bias` has shape \(10,\) for `predictions/bias:0`",
        ),
        (
            lambda t: t.update({"_fc.bias": np.full(1000, np.nan)}),
            r"`_fc\.bias` holds values that are not finite",
        ),
    ],
)
def test_weights_of_another_model_change_nothing(classifier, tensors, change, problem):
    changed = dict(tensors)
    change(changed)
    changed["_conv_stem.weight"] = np.zeros([32, 3, 3, 3], np.float32)
    with pytest.raises(BadInput, match=problem):
        efficientnet_lite.load_torch_weights(classifier, changed)
    assert np.any(classifier.get_layer("stem_conv").kernel)


# The SavedModel


@pytest.mark.slow
@pytest.mark.release
def test_the_savedmodel_takes_any_size_and_equals_the_model(converted):
    layer = hub.KerasLayer(str(converted[1]))
    for size in (160, 224):
        assert_golden_features(layer(waves(size)), LITE0, size)
    assert layer(np.zeros([3, 96, 120, 3], np.float32)).shape == (3, LITE0.width)


def test_a_frozen_layer_trains_nothing(converted):
    layer = hub.KerasLayer(str(converted[1]), trainable=False)
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 245


@pytest.mark.slow
@pytest.mark.release
def test_fine_tuning_reaches_every_weight_and_leaves_moving_averages_alone(converted):
    layer = hub.KerasLayer(str(converted[1]), trainable=True)
    moving = [v for v in layer.variables if "/moving_" in v.name]
    before = [v.numpy() for v in moving]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(waves(96), training=False) ** 2)
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert len(gradients) == 147
    assert len(moving) == 98
    for variable, gradient in zip(layer.trainable_weights, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all(), variable.name
        assert np.any(gradient), variable.name
    assert all(np.array_equal(old, v.numpy()) for old, v in zip(before, moving, strict=True))
    layer(waves(96), training=True)  # The other trace is there, and is another one.
    assert not any(np.array_equal(old, v.numpy()) for old, v in zip(before, moving, strict=True))


def test_names_survive_and_select_what_is_unfrozen(converted):
    module = feature_vector.load(converted[1])
    assert [v.name for v in module.trainable_variables if re.match(LITE0.unfreeze, v.name)] == UNFROZEN


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("backbone", [LITE1, LITE2], ids=lambda backbone: backbone.name)
def test_the_larger_ones_are_resolved_by_name(cache, backbone):
    assert registry.on_disk(backbone) == "weights_installed"
    folder = feature_vector.resolve(backbone.name)
    assert folder == registry.converted_folder(backbone)
    assert registry.on_disk(backbone) == "converted"
    layer = hub.KerasLayer(str(folder))
    for size in (160, backbone.input_size):
        assert_golden_features(layer(waves(size)), backbone, size)


# Resolving


def test_the_conversion_is_done_once(converted, monkeypatch):
    cache, folder = converted
    monkeypatch.setenv("WARMSTART_CACHE", str(cache))
    monkeypatch.setattr(feature_vector, "_convert", lambda *_: pytest.fail("converted a second time"))
    assert feature_vector.resolve("efficientnet_lite0") == folder
    assert feature_vector.resolve(str(folder)) == folder


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "list"])
def test_a_conversion_that_was_damaged_in_the_cache_is_made_anew(cache, monkeypatch, damage):
    made = []

    def convert(backbone, folder):
        made.append(backbone.name)
        (folder / "variables").mkdir()
        (folder / "saved_model.pb").write_text("graph")
        (folder / "variables" / "variables.index").write_text("values")

    monkeypatch.setattr(feature_vector, "_convert", convert)
    folder = feature_vector.resolve("efficientnet_lite0")
    assert feature_vector.resolve("efficientnet_lite0") == folder
    assert len(made) == 1
    file = folder / ("checksums.json" if damage == "list" else "variables/variables.index")
    if damage == "gone":
        file.unlink()
    else:
        file.write_text({"changed": "VALUES", "cut": "", "list": "{}"}[damage])
    assert feature_vector.resolve("efficientnet_lite0") == folder
    assert len(made) == 2
    assert (folder / "variables" / "variables.index").read_text() == "values"
    assert [path.name for path in (cache / "backbones").iterdir()] == [folder.name]


def test_a_conversion_that_fails_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(feature_vector, "check_feature_vector", lambda _: 7)
    monkeypatch.setattr(saved_feature_vector, "save_feature_vector", lambda _, folder: (folder / "half").touch())
    with pytest.raises(BadInput, match="gave a width of 7, expected 1280"):
        feature_vector.resolve("efficientnet_lite0")
    assert list((cache / "backbones").iterdir()) == []


def write_slowly(target: Path, who: str) -> None:
    def write(folder):
        (folder / "one").write_text(who)
        time.sleep(0.3)
        (folder / "two").write_text(who)

    assert feature_vector._once(target, write) == target


def test_two_processes_at_once_give_one_whole_folder(tmp_path):
    target = tmp_path / "cache" / "backbone"
    context = multiprocessing.get_context("fork")  # Neither child calls TensorFlow.
    workers = [context.Process(target=write_slowly, args=(target, who)) for who in ("first", "second")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (target / "one").read_text() == (target / "two").read_text()
    assert list(target.parent.iterdir()) == [target]


class TinyModule(tf.Module):
    """Mean colour times a 3 x 4 kernel; the knobs make it something else than a feature vector."""

    variables = ()

    def __init__(self, size=None, rank=2, value=1.0, listed=True):
        super().__init__()
        self.kernel = tf.Variable(tf.fill([3, 4], value), name="kernel")
        self.variables = [self.kernel] if listed else []
        self.rank = rank
        self.__call__ = tf.function(self.features, input_signature=[tf.TensorSpec([None, size, size, 3])])

    def features(self, images):
        features = tf.reduce_mean(images, [1, 2]) @ self.kernel
        return features if self.rank == 2 else features[:, None, None, :]


def save_tiny(folder: Path, **knobs) -> Path:
    tf.saved_model.save(TinyModule(**knobs), str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "module")


@pytest.mark.parametrize("inside", [".", "module"])
def test_an_archive_is_unpacked_once(tiny, cache, tmp_path, monkeypatch, inside):
    archive = tmp_path / "module.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny, arcname=inside)
    folder = feature_vector.resolve(str(archive))
    assert folder.parent == cache / "backbones"
    assert list(folder.parent.iterdir()) == [folder]
    assert feature_vector.check_feature_vector(folder) == 4
    monkeypatch.setattr(feature_vector, "_unpack", lambda *_: pytest.fail("unpacked a second time"))
    assert feature_vector.resolve(str(archive)) == folder


def test_a_truncated_archive_is_one_clear_error(tiny, cache, tmp_path):
    whole = tmp_path / "whole.tar.gz"
    with tarfile.open(whole, "w:gz") as tar:
        tar.add(tiny, arcname=".")
    for length in (0, 5, 100, whole.stat().st_size - 20):
        broken = tmp_path / "broken.tgz"
        broken.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(BadInput, match=r"archive .*broken\.tgz cannot be unpacked"):
            feature_vector.resolve(str(broken))
    assert list((cache / "backbones").iterdir()) == []


def archive_of(path: Path, *members: str) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            entry = tarfile.TarInfo(member)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    return str(path)


def test_an_archive_cannot_write_outside_its_folder(cache, tmp_path):
    with pytest.raises(BadInput, match="cannot be unpacked"):
        feature_vector.resolve(archive_of(tmp_path / "evil.tar.gz", "saved_model.pb", "../../../evil"))
    assert not (tmp_path / "evil").exists()


def test_an_archive_of_something_else_is_named(cache, tmp_path):
    with pytest.raises(BadInput, match=r"photos\.tar\.gz contains no saved_model\.pb"):
        feature_vector.resolve(archive_of(tmp_path / "photos.tar.gz", "cat.jpg"))
    with pytest.raises(BadInput, match=r"old\.tar\.gz is a TF1 hub module"):
        feature_vector.resolve(archive_of(tmp_path / "old.tar.gz", "saved_model.pb", "tfhub_module.pb"))


def test_an_address_that_cannot_be_reached_is_named(monkeypatch):
    def unreachable(handle):
        raise OSError("Name or service not known\nand a long tail")

    monkeypatch.setattr(hub, "resolve", unreachable)
    with pytest.raises(BadInput, match=r"^Backbone https://x\.invalid/m cannot be downloaded: Name .* known\.$"):
        feature_vector.resolve("https://x.invalid/m")


# What is, and is not, a feature vector


def test_a_small_module_is_accepted(tiny):
    assert feature_vector.check_feature_vector(tiny, image_size=8) == 4
    assert feature_vector.load(tiny)(tf.ones([2, 8, 8, 3])).shape == (2, 4)


def test_a_fixed_size_is_found_out_and_another_is_refused(tmp_path):
    fixed = save_tiny(tmp_path / "fixed", size=8)
    assert feature_vector.check_feature_vector(fixed) == 4
    with pytest.raises(BadInput, match=r"does not take float32 \[2, 160, 160, 3\] .*its inputs: \(None, 8, 8, 3\)"):
        feature_vector.load(fixed, image_size=160)


@pytest.mark.parametrize(
    ("knobs", "problem"),
    [
        ({"rank": 4}, r"returns float32 \(2, 1, 1, 4\) for two images, expected float32 \(2, width\)"),
        ({"value": float("nan")}, "returns values that are not finite"),
        ({"listed": False}, "lists no variables"),
    ],
)
def test_what_is_no_feature_vector_is_refused(tmp_path, knobs, problem):
    folder = save_tiny(tmp_path / "module", **knobs)
    with pytest.raises(BadInput, match=problem):
        feature_vector.check_feature_vector(folder)


def test_a_model_for_serving_is_refused(tmp_path):
    serving = tf.Module()
    serving.score = tf.function(lambda x: x, input_signature=[tf.TensorSpec([None])])
    tf.saved_model.save(serving, str(tmp_path / "serving"))
    with pytest.raises(BadInput, match="has no __call__"):
        feature_vector.load(str(tmp_path / "serving"))


def test_a_damaged_savedmodel_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff damaged")
    with pytest.raises(BadInput, match="cannot be loaded"):
        feature_vector.load(str(tmp_path))
