"""Suspected labels, proven on wrong labels that were planted."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)
from components.report import suspected_labels
from components.report.suspected_labels import FOLDS, _folds, out_of_fold, suspects


def planted_in(classes: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels with a share of them wrong, and which are, bool."""
    rng = np.random.default_rng(seed)
    labels, count = classes.copy(), classes.max() + 1
    rows = rng.choice(len(classes), max(1, round(share * len(classes))), replace=False)
    labels[rows] = (labels[rows] + rng.integers(1, count, len(rows))) % count
    return labels, labels != classes


def found_among(vectors: np.ndarray, classes: np.ndarray, seed: int) -> tuple[float, float, float, float]:
    """With 5 % wrong labels: precision, recall, precision of the 20 surest, and how many of the planted ones that were
    found are told their true class.
    """
    labels, is_planted = planted_in(classes, 0.05, seed)
    found = suspects(out_of_fold(vectors, labels, seed), labels)
    rows = np.array([suspect.row for suspect in found], int)
    hits = rows[is_planted[rows]]
    suggested = {suspect.row: suspect.suggested for suspect in found}
    right = np.mean([suggested[row] == classes[row] for row in hits]) if len(hits) else 0.0
    surest = float(is_planted[rows[:20]].mean()) if len(rows) else 0.0
    return len(hits) / max(1, len(rows)), len(hits) / is_planted.sum(), surest, float(right)


def clusters(photos: int, classes: int, width: int, apart: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(photos) % classes
    return (rng.normal(0, apart, (classes, width))[truth] + rng.normal(0, 1, (photos, width))).astype(np.float32), truth


@pytest.mark.parametrize("classes", [2, 7])
def test_planted_labels_are_found_where_classes_lie_apart(classes):
    vectors, truth = clusters(420, classes, 32, apart=2.0)
    precision, recall, surest, right = found_among(vectors, truth, seed=1)
    assert precision >= 0.9
    assert recall >= 0.8
    assert surest >= 0.9
    assert right >= 0.95


def test_nothing_is_suspected_of_labels_that_are_all_right():
    vectors, truth = clusters(300, 3, 32, apart=2.0)
    assert suspects(out_of_fold(vectors, truth, 1), truth) == []


def test_planted_labels_of_drawn_photos_are_found():
    """Mean colours of 4 x 4 fields stand for the feature vectors."""
    rng = np.random.default_rng(4)
    vectors, truth = [], np.arange(160) % 2
    for label in truth:
        y, x = np.mgrid[:32, :32]
        colours = np.stack([240 - x, 60 + y * 2, x + y], -1)[..., :: -1 if label else 1]
        drawn = Image.fromarray(np.clip(colours + rng.normal(0, 60, colours.shape), 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        drawn.save(buffer, "JPEG")
        vectors.append(np.asarray(Image.open(buffer).resize((4, 4), Image.Resampling.BOX), np.float32).ravel())
    precision, recall, *_ = found_among(np.array(vectors), truth, seed=2)
    assert precision >= 0.9
    assert recall >= 0.9


def test_every_photo_is_judged_by_a_model_that_has_not_seen_it():
    """Were it otherwise, a label that is only noise would be known again."""
    rng = np.random.default_rng(3)
    vectors, labels = rng.normal(0, 1, (100, 200)).astype(np.float32), np.arange(100) % 2
    before = vectors.copy()
    probabilities = out_of_fold(vectors, labels, seed=3)
    assert np.mean(probabilities.argmax(axis=1) == labels) < 0.7
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(probabilities, out_of_fold(vectors, labels, seed=3))


def test_the_models_are_those_of_scikit_learn(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(suspected_labels, "_STEEP_ENOUGH", 1e-6)
    vectors, classes = clusters(90, 3, 8, apart=0.7)
    vectors = (vectors * np.arange(1, 9) + 5).astype(np.float16)
    probabilities, folds = out_of_fold(vectors, classes, seed=1), _folds(classes, seed=1)
    for fold in range(FOLDS):
        learnt, held = vectors[folds != fold].astype(float), vectors[folds == fold].astype(float)
        mean, deviation = learnt.mean(axis=0), learnt.std(axis=0)
        model = LogisticRegression(C=0.01, tol=1e-6, max_iter=1000).fit(
            (learnt - mean) / deviation, classes[folds != fold]
        )
        expected = model.predict_proba((held - mean) / deviation)
        np.testing.assert_allclose(probabilities[folds == fold], expected, atol=2e-4)


def test_folds_are_of_one_size_and_share_each_class():
    classes = np.array([0] * 50 + [1] * 7 + [2] * 2 + [3] * 4)
    folds = _folds(classes, seed=1)
    assert np.ptp(np.bincount(folds, minlength=FOLDS)) <= 1
    for label in range(4):
        assert np.ptp(np.bincount(folds[classes == label], minlength=FOLDS)) <= 1
    assert not np.array_equal(folds, _folds(classes, seed=2))


def test_a_class_of_two_photos_does_not_stop_the_others():
    vectors, truth = clusters(60, 2, 16, apart=2.0)
    labels = np.concatenate([truth, [2, 2]])
    vectors = np.concatenate([vectors, np.full((2, 16), 9, np.float32)])
    assert out_of_fold(vectors, labels, seed=1).shape == (62, 3)


def test_thresholds_are_those_of_each_class():
    # Of class 0 models are sure (0.9), of class 1 they never are (0.55).
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.45, 0.55], [0.45, 0.55], [0.42, 0.58], [0.85, 0.15]])
    labels = np.array([0, 0, 1, 1, 0, 1])
    # Thresholds: (0.9 + 0.9 + 0.42) / 3 = 0.74; (0.55 + 0.55 + 0.15) / 3 = 0.417.
    found = suspects(probabilities, labels)
    assert [(suspect.row, suspect.suggested) for suspect in found] == [(5, 0), (4, 1)]
    assert found[0].probability == pytest.approx(0.85)
    assert found[0].of_label == pytest.approx(0.15)
    # 0.58 for class 0 would be the likeliest, and less than what photos of class 0 get.
    assert suspects(np.array([[0.9, 0.1], [0.9, 0.1], [0.58, 0.42], [0.2, 0.8]]), np.array([0, 0, 1, 1])) == []


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(
    ("dataset", "least"), [("cats_vs_dogs", (0.85, 0.6, 0.85, 0.95)), ("oxford_iiit_pet", (0.25, 0.5, 0.45, 0.75))]
)
def test_planted_labels_of_real_photos_are_found(shared_data, dataset, least):
    import tensorflow as tf

    from components.backbone import feature_vector, frozen_pass
    from components.transform import image_ops

    pattern = "*/*" if dataset == "cats_vs_dogs" else "images/*.jpg"
    images, names = [], []
    for file in sorted((shared_data / dataset).glob(pattern)):
        try:
            pixels = image_ops.decode_image(tf.constant(file.read_bytes()))
        except tf.errors.OpError:
            continue
        images.append(tf.image.resize(tf.cast(pixels, tf.float32) / 255, [160, 160]))
        names.append(file.parent.name if dataset == "cats_vs_dogs" else file.stem.rsplit("_", 1)[0])
    module = feature_vector.load(str(feature_vector.resolve("efficientnet_lite0")), 160)
    backbone = frozen_pass.build(module, 160, None)
    batches = [tf.stack(images[start : start + 32]) for start in range(0, len(images), 32)]
    vectors = np.concatenate([backbone.call(batch)[0].numpy() for batch in batches])
    _, truth = np.unique(names, return_inverse=True)
    results = np.mean([found_among(vectors, truth, seed) for seed in range(4)], axis=0)
    print(
        dataset,
        len(truth),
        "photos: precision, recall, precision of the 20 surest, right suggestions",
        results.round(2),
    )
    assert (results >= least).all()
