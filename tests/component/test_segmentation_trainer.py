"""Both trainers on masks: run for real on drawn photos and a backbone of three convolutions."""

from __future__ import annotations

import math

import numpy as np
import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
import tensorflow as tf
import tensorflow_hub as hub

from components.backbone.pyramid import build_pyramid
from components.backbone.saved_feature_vector import save_feature_vector
from components.legacy_keras import tf_keras
from components.trainer import feature_extraction, fine_tuning, loop
from components.trainer.segmenter import Segmenter
from components.trainer.settings import DecoderSettings, PhaseSettings
from components.transform.graph import load_transform
from components.transform.mask_ops import masks_to_ids
from schemas import features as f
from schemas.schema_files import curated_schema_file
from tests import trainers
from tests.conftest import IMAGE_SIZE
from tests.trainers import LEARNING, TRAIN_PHOTOS, Written, changed_variables, second_phase

STRIDES = (2, 4)
PHASE_ONE = trainers.PHASE_ONE.replaced(
    task="segmentation",
    decoder=DecoderSettings(strides=STRIDES, widths=(12, 8), dice=True),
    learning_rate=0.02,
    schedule="cosine",
    augmentation_mode="mirror",
)
PHASE_TWO = second_phase(PHASE_ONE).replaced(epochs=6, patience=6, learning_rate=0.02)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    """Folder of a feature vector with tensors at strides 2 and 4, of which the last convolution has no part in any."""
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input([None, None, 3]),
            layers.Conv2D(6, 3, 2, padding="same", use_bias=False, name="stem_conv"),
            layers.BatchNormalization(name="stem_bn"),
            layers.ReLU(name="stem_activation"),
            layers.Conv2D(8, 3, 2, padding="same", use_bias=False, name="top_conv"),
            layers.BatchNormalization(name="top_bn"),
            layers.ReLU(name="top_activation"),
            layers.GlobalAveragePooling2D(name="avg_pool"),
        ]
    )
    rng = np.random.default_rng(3)
    for variable in model.variables:
        positive = "gamma" in variable.name or "variance" in variable.name
        values = rng.normal(1.0 if positive else 0.0, 0.2 if positive else 0.4, variable.shape)
        variable.assign(np.abs(values) if positive else values)
    folder = tmp_path_factory.mktemp("backbone_of_two_strides")
    save_feature_vector(model, folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory, drawn_photos, drawn_mask, make_example, write_records, transform_graph, backbone):
    """Folder with photos/ and vectors/ of the splits train and eval, as FeatureVectorGen leaves them."""
    folder = tmp_path_factory.mktemp("mask_examples")
    transform, module = load_transform(transform_graph), hub.load(backbone)
    pyramid = build_pyramid(module, [], IMAGE_SIZE, STRIDES, later_learning=[LEARNING])
    photos, vectors = [], []
    for number, photo in enumerate(drawn_photos):
        example = make_example(photo)
        example.features.feature[f.MASK].bytes_list.value.append(drawn_mask(photo))
        images = transform(tf.constant([photo.photo_bytes]))
        ids = masks_to_ids(tf.constant([drawn_mask(photo)]), IMAGE_SIZE)
        photos.append(example)
        for view in range(2 if number < TRAIN_PHOTOS else 1):
            with_taps = tf.train.Example.FromString(example.SerializeToString())
            feature = with_taps.features.feature
            del feature[f.IMAGE], feature[f.MASK]
            seen, mask = (images[:, :, ::-1], ids[:, :, ::-1]) if view else (images, ids)
            vector, cached = pyramid.with_vectors(seen)
            feature[f.FEATURE_VECTOR].float_list.value.extend(vector.numpy()[0])
            for name, tensor in zip(pyramid.cached, cached, strict=True):
                feature[f.TAP_NAMES].bytes_list.value.append(name.encode())
                feature[f.TAPS].bytes_list.value.append(tf.cast(tensor, tf.float16).numpy()[0].tobytes())
            feature[f.MASK_IDS].bytes_list.value.append(mask.numpy().tobytes())
            feature[f.VIEW].int64_list.value.append(view)
            vectors.append(with_taps)
    write_records(folder / "photos" / "Split-train", photos[:TRAIN_PHOTOS])
    write_records(folder / "photos" / "Split-eval", photos[TRAIN_PHOTOS:])
    write_records(folder / "vectors" / "Split-train", vectors[: 2 * TRAIN_PHOTOS])
    write_records(folder / "vectors" / "Split-eval", vectors[2 * TRAIN_PHOTOS :])
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, transform_graph, backbone):
    """Runs one of the two run_fns as TFX Trainer does."""

    def run_phase(module, settings: PhaseSettings, base_model=None) -> Written:
        return trainers.run_phase(
            module,
            settings.replaced(backbone=backbone),
            data,
            tmp_path_factory.mktemp("trained"),
            curated_schema_file("oxford_iiit_pet_masks"),
            transform_graph,
            base_model=base_model,
        )

    return run_phase


@pytest.fixture(scope="module")
def base(run):
    """Phase one."""
    return run(feature_extraction, PHASE_ONE)


@pytest.fixture(scope="module")
def fine_tuned(run, base):
    """Phase two."""
    return run(fine_tuning, PHASE_TWO, base.folder)


def of_decoder(variables) -> set[str]:
    return {name for name in variables if name.startswith(("decoder/", "head/"))}


def test_feature_extraction_learns_masks_and_leaves_the_backbone_as_it_was(base, backbone):
    history = base.history
    assert history["trained_on"] == "cached taps of strides 2, 4"
    assert history["before"]["eval_loss"] == pytest.approx(math.log(3), abs=1e-5)  # every class is equally likely
    best = history["epochs"][history["best_epoch"] - 1]
    assert best["eval_loss"] < history["before"]["eval_loss"] - 0.1
    assert best["eval_mean_iou"] > history["before"]["eval_mean_iou"]
    assert best["eval_mean_iou"] == max(epoch["eval_mean_iou"] for epoch in history["epochs"])
    assert set(best) == {
        *("train_loss", "train_accuracy", "train_mean_iou"),
        *("eval_loss", "eval_accuracy", "eval_mean_iou", "learning_rate"),
    }
    published = {v.name: v.numpy() for v in hub.load(backbone).variables}
    exported = {name: value for name, value in base.variables.items() if name not in of_decoder(base.variables)}
    assert changed_variables(published, exported) == set()


def test_fine_tuning_begins_where_feature_extraction_ended_and_changes_what_it_may(base, fine_tuned):
    history = fine_tuned.history
    assert history["warm_start"]["step_zero"].startswith("same answers as the source on 9 photos, within ")
    assert history["warm_start"]["missing"] == history["warm_start"]["skipped"] == []
    assert history["trained_on"] == "cached taps below what learns, of strides 2, 4"
    best = base.history["epochs"][base.history["best_epoch"] - 1]
    assert history["before"]["eval_loss"] == pytest.approx(best["eval_loss"], abs=1e-3)  # float16
    assert history["before"]["eval_mean_iou"] == pytest.approx(best["eval_mean_iou"], abs=2e-3)
    assert history["best_epoch"] > 0
    assert changed_variables(base.variables, fine_tuned.variables) == {LEARNING, *of_decoder(base.variables)}


def test_the_loss_of_the_exported_model_is_that_of_its_training(base, drawn_photos, drawn_mask):
    photos = drawn_photos[TRAIN_PHOTOS:]
    model = tf.saved_model.load(base.folder)
    answers = model.signatures["probabilities"](image_bytes=tf.constant([photo.photo_bytes for photo in photos]))
    plain = answers["probabilities"].numpy().astype(np.float64) ** model.temperature.numpy()
    plain /= plain.sum(-1, keepdims=True)
    ids = masks_to_ids(tf.constant([drawn_mask(photo) for photo in photos]), IMAGE_SIZE).numpy()
    loss = -np.log(np.take_along_axis(plain, ids[..., np.newaxis].astype(int), -1)).mean()
    best = base.history["epochs"][base.history["best_epoch"] - 1]
    assert loss == pytest.approx(best["eval_loss"], abs=1e-3)
    assert base.history["calibration"]["eval_loss_after"] <= base.history["calibration"]["eval_loss_before"]
    assert float(model.temperature) == np.float32(base.history["calibration"]["temperature"])
    assert abs(float(model.temperature) - 1) > 0.005, "a temperature of 1 says little"


def test_a_training_step_is_traced_once(run, monkeypatch):
    traced = []
    step = Segmenter.train_step
    monkeypatch.setattr(Segmenter, "train_step", lambda self, data: traced.append(data) or step(self, data))
    run(feature_extraction, PHASE_ONE.replaced(epochs=2))
    assert len(traced) == 1


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize("phase", ["base", "fine_tuned"])
def test_a_killed_training_goes_on_to_the_same_weights(run, base, request, phase, tmp_path, monkeypatch):
    whole = request.getfixturevalue(phase)
    module, settings, *rest = (
        (feature_extraction, PHASE_ONE) if phase == "base" else (fine_tuning, PHASE_TWO, base.folder)
    )
    settings = settings.replaced(resume_folder=str(tmp_path / "resume"))
    write = loop._State.write

    def write_then_die(self, path):
        write(self, path)
        if len(self.epochs) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._State, "write", write_then_die)
        with pytest.raises(KeyboardInterrupt):
            run(module, settings, *rest)
    resumed = run(module, settings, *rest)
    assert resumed.history["resumed_from"] == 2
    assert changed_variables(whole.variables, resumed.variables) == set()
    assert resumed.history["epochs"] == whole.history["epochs"]


@pytest.mark.slow
@pytest.mark.release
def test_without_cached_taps_each_step_computes_them(run, base, data, monkeypatch):
    """From the same photos in the same order, so that the two learn the same."""
    settings = PHASE_ONE.replaced(augmentation_mode="none", batch_size=64, epochs=2)
    cached = run(feature_extraction, settings)
    monkeypatch.setattr("components.trainer.segmentation.has_taps", lambda files, names: False)
    computed = run(feature_extraction, settings)
    assert cached.history["trained_on"].startswith("cached taps")
    assert computed.history["trained_on"].startswith("photos through the frozen backbone: no taps are cached")
    for a, b in zip(cached.history["epochs"], computed.history["epochs"], strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=2e-3)
        assert a["eval_mean_iou"] == pytest.approx(b["eval_mean_iou"], abs=2e-2)
