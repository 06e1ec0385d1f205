"""The other sides of the benchmarks: they have to do what their names say, or the comparison is none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf

from benchmarks import mini_xception, more_photos, plain_keras
from components.legacy_keras import tf_keras
from schemas.errors import BadInput

LABELS = ["cat", "dog"]
IMAGE_SIZE = 16  # pixels

pytestmark = pytest.mark.slow  # tracing many graphs takes its time


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory, drawn_photos) -> Path:
    """12 photos in cat/ and 6 in dog/."""
    folder = tmp_path_factory.mktemp("photos")
    cats = [photo for photo in drawn_photos if photo.label == "cat"]
    dogs = [photo for photo in drawn_photos if photo.label == "dog"][:6]
    for photo in [*cats, *dogs]:
        (folder / photo.label).mkdir(exist_ok=True)
        (folder / photo.label / photo.name).write_bytes(photo.photo_bytes)
    return folder


def values(variables) -> dict[str, np.ndarray]:
    return {v.name: v.numpy() for v in variables}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}


# plain_keras


@pytest.mark.release
def test_plain_keras_trains_the_head_and_then_what_matches(photo_folder, tiny_backbone):
    photos, labels = plain_keras.list_photos(photo_folder)
    assert labels == LABELS
    train_photos, validation_photos = plain_keras.split(photos, seed=1)
    train_data = plain_keras.batches(train_photos, IMAGE_SIZE, shuffle_seed=1)
    validation_data = plain_keras.batches(validation_photos, IMAGE_SIZE)
    model = plain_keras.feature_extraction_model(tiny_backbone, len(labels), IMAGE_SIZE)
    module = model.layers[0].resolved_object
    assert len(model.trainable_variables) == 2  # the head's

    before, head_before = values(module.variables), values(model.trainable_variables)
    first = plain_keras.train(model, train_data, validation_data, epochs=1, rate=1e-3)
    assert changed(before, values(module.variables)) == set()
    assert len(changed(head_before, values(model.trainable_variables))) == 2
    assert {name: len(per_epoch) for name, per_epoch in first.items()} == {
        "epoch_seconds": 1,
        "validation_seconds": 1,
        "validation_loss": 1,
        "validation_accuracy": 1,
    }
    assert 0 < first["validation_seconds"][0] < first["epoch_seconds"][0]

    images = next(iter(validation_data))[0]
    answers = model(images).numpy()
    model = plain_keras.fine_tuning_model(model, "top_conv/")
    np.testing.assert_allclose(model(images), answers, rtol=1e-5, atol=1e-6)  # it goes on where phase one ended
    plain_keras.train(model, train_data, validation_data, epochs=1, rate=1e-4)
    # No scale, and none of the averages: `top_bn` has four variables that stay as they are.
    assert changed(before, values(module.variables)) == {"top_conv/kernel:0"}
    assert len(model.trainable_variables) == 3


@pytest.mark.release
def test_plain_keras_fine_tunes_what_the_pipeline_would(tiny_backbone):
    trained = plain_keras.feature_extraction_model(tiny_backbone, 2, IMAGE_SIZE)

    def learning(*patterns: str | None) -> list[str]:
        return [v.name for v in plain_keras.fine_tuning_model(trained, *patterns).layers[0].trainable_weights]

    assert learning("stem_conv/", "top_conv/") == ["stem_conv/kernel:0"]
    assert learning(None, "(stem|top)_conv/") == ["stem_conv/kernel:0", "top_conv/kernel:0"]
    assert learning(None) == ["top_conv/kernel:0"]  # the last fifth of two kernels, at least one
    with pytest.raises(BadInput, match="trainable variables"):
        learning("block7")


def test_plain_keras_decodes_to_the_unit_range(photo_folder):
    photos, _ = plain_keras.list_photos(photo_folder)
    images, labels = next(iter(plain_keras.batches(photos, IMAGE_SIZE)))
    assert images.shape == (18, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert labels.numpy().tolist() == [0] * 12 + [1] * 6
    pixels = np.asarray(Image.open(photos[0][0]).convert("RGB"), np.float32) / 255
    by_hand = tf.image.resize(pixels, [IMAGE_SIZE, IMAGE_SIZE])
    np.testing.assert_allclose(images[0], by_hand, atol=0.02)  # two JPEG decoders


def test_plain_keras_holds_a_fifth_out_by_file(photo_folder):
    photos, _ = plain_keras.list_photos(photo_folder)
    train, validation = plain_keras.split(photos, seed=1)
    assert (len(train[0]), len(validation[0])) == (14, 4)
    assert sorted([*zip(*train, strict=True), *zip(*validation, strict=True)]) == sorted(zip(*photos, strict=True))
    assert plain_keras.split(photos, seed=1) == (train, validation)
    assert plain_keras.split(photos, seed=2) != (train, validation)


@pytest.mark.release
def test_plain_keras_as_a_command(photo_folder, tiny_backbone, tmp_path, capsys):
    arguments = [photo_folder, "--backbone", tiny_backbone, "--unfreeze", "top_conv/", "--image-size", IMAGE_SIZE]
    arguments += ["--epochs", 1, "--fine-tuning-epochs", 1, "--test", photo_folder, "--save", tmp_path]
    plain_keras.main([*map(str, arguments)])
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == LABELS
    assert result["photos"] == {"train": 14, "validation": 4}
    assert len(result["feature_extraction"]["epoch_seconds"]) == len(result["fine_tuning"]["epoch_seconds"]) == 1
    parts = sum(result[phase]["epoch_seconds"][0] for phase in ("feature_extraction", "fine_tuning"))
    assert result["total_seconds"] > result["import_seconds"] + result["save_seconds"] + parts
    saved = tf.saved_model.load(str(tmp_path))
    photos, _ = plain_keras.list_photos(photo_folder)
    images, classes = next(iter(plain_keras.batches(photos, IMAGE_SIZE)))
    right = np.argmax(saved(images, training=False), axis=1) == classes.numpy()
    assert result["test"]["photos"] == 18
    assert result["test"]["accuracy"] == pytest.approx(right.mean())


def test_plain_keras_refuses_a_test_folder_with_other_classes(photo_folder):
    with pytest.raises(BadInput, match="has the classes dog; expected only cat"):
        plain_keras.list_photos(photo_folder, ["cat"])


# mini_xception


def test_mini_xception_is_the_network_of_the_book():
    # Which gives this number for 180 pixels and one output.
    assert mini_xception.build(180, 1).count_params() == 721_857


def test_mini_xception_is_made_of_separable_convolutions_and_shortcuts():
    network = mini_xception.build(64, 5)

    def found(kind) -> list:
        return [layer for layer in network.layers if type(layer) is kind]

    separable = found(tf_keras.layers.SeparableConv2D)
    assert [layer.filters for layer in separable] == [32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert len(found(tf_keras.layers.BatchNormalization)) == len(separable)
    entry, *shortcuts = found(tf_keras.layers.Conv2D)
    assert (entry.filters, entry.kernel_size) == (32, (5, 5))
    assert [(each.filters, each.kernel_size, each.strides) for each in shortcuts] == [
        (width, (1, 1), (2, 2)) for width in (32, 64, 128, 256, 512)
    ]
    assert len(found(tf_keras.layers.Add)) == len(shortcuts)
    assert [layer.rate for layer in found(tf_keras.layers.Dropout)] == [0.5]
    assert network.output_shape == (None, 5)
    assert all(layer.trainable for layer in network.layers)


@pytest.mark.release
def test_mini_xception_learns_from_scratch_and_answers(drawn_photos, monkeypatch):
    monkeypatch.setattr(mini_xception, "WIDTHS", (4, 8))  # quicker to trace
    photos = [photo.photo_bytes for photo in drawn_photos]
    classes = [LABELS.index(photo.label) for photo in drawn_photos]
    train, rest = (photos[:16], classes[:16]), (photos[16:], classes[16:])
    result = mini_xception.run(train, rest, rest, LABELS, epochs=1, seed=3, image_size=32)
    assert result["probabilities"].shape == (8, 2)
    assert result["probabilities"].dtype == np.float32
    np.testing.assert_allclose(result["probabilities"].sum(axis=1), 1, rtol=1e-5)
    # The entry, two blocks of a shortcut and twice batch norm (2) and separable convolution (2), the dense layer.
    assert len(result["trainable_variables"]) == 1 + 2 * (1 + 2 * (2 + 2)) + 2
    network = mini_xception.build(32, 2)
    assert result["parameters"] == sum(np.prod(variable.shape) for variable in network.trainable_variables)
    assert result["best_epoch"] == 1
    assert result["seconds"] > 0


def test_mini_xception_is_left_at_its_best_epoch_averages_included():
    network = mini_xception.build(32, 2)
    best = mini_xception._BestEpoch(network)
    states = []
    for epoch, loss in enumerate([0.9, 0.4, 0.6]):
        for variable in network.variables:
            variable.assign_add(tf.ones_like(variable))
        states.append(network.get_weights())
        best.on_epoch_end(epoch, {"val_loss": loss})
    best.on_train_end()
    assert best.epoch == 2
    assert any("moving_mean" in variable.name for variable in network.variables)
    for left, kept in zip(network.get_weights(), states[1], strict=True):
        np.testing.assert_array_equal(left, kept)


# more_photos


def made(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


@pytest.mark.parametrize(("count", "cats"), [(50, 33), (7, 5), (0, 0)])
def test_more_photos_are_as_many_as_asked_for_and_all_decode(photo_folder, tmp_path, count, cats):
    more_photos.make_photos(photo_folder, tmp_path / "more", count, seed=1)
    photos = made(tmp_path / "more")
    assert len(photos) == count
    assert sum(name.startswith("cat/") for name in photos) == cats
    assert len(set(photos.values())) == count  # no two are the same
    for photo_bytes in photos.values():
        assert tf.io.decode_jpeg(photo_bytes).shape[2] == 3


def test_more_photos_are_the_same_for_the_same_seed(photo_folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        more_photos.make_photos(photo_folder, tmp_path / name, 20, seed)
    assert made(tmp_path / "a") == made(tmp_path / "b")
    assert made(tmp_path / "a") != made(tmp_path / "c")


def test_more_photos_are_crops_of_three_quarters_and_more(tmp_path):
    (tmp_path / "few" / "cat").mkdir(parents=True)
    ramp = np.stack(np.broadcast_arrays(np.arange(200)[:, None], np.arange(240)[None], 0), -1).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "few" / "cat" / "ramp.png")
    more_photos.make_photos(tmp_path / "few", tmp_path / "more", 30, seed=5)
    sizes = []
    for photo_bytes in made(tmp_path / "more").values():
        photo = Image.open(io.BytesIO(photo_bytes))
        left, top = np.asarray(photo)[:3, :3].astype(float).mean(axis=(0, 1))[[1, 0]] - 1
        assert -3 <= left <= 240 - photo.width + 3
        assert -3 <= top <= 200 - photo.height + 3
        sizes.append(photo.size)
    widths, heights = np.array(sizes).T
    assert (widths.min() >= 180, widths.max() <= 240, heights.min() >= 150, heights.max() <= 200) == (True,) * 4
    assert len(set(widths)) > 10
    assert len(set(heights)) > 10


def test_more_photos_never_mix_with_older_ones(photo_folder, tmp_path):
    more_photos.make_photos(photo_folder, tmp_path / "more", 4, seed=1)
    with pytest.raises(BadInput, match="is not empty"):
        more_photos.make_photos(photo_folder, tmp_path / "more", 4, seed=1)


def test_a_folder_without_photos_is_said_to_be_one(tmp_path):
    with pytest.raises(BadInput, match="holds no photos"):
        more_photos.make_photos(tmp_path / "nothing", tmp_path / "more", 4, seed=1)
