"""The head on a feature vector, and the one loss that both phases share."""

from __future__ import annotations

from components.legacy_keras import tf_keras

HEAD_NAME = "head"


def build_head(width: int, classes: int, dropout: float, seed: int) -> tf_keras.Sequential:
    """Feature vectors to logits: float32 [batch, width] -> float32 [batch, classes].

    It starts from zeros: the first answer is that every class is equally likely.
    """
    return tf_keras.Sequential(
        [
            tf_keras.layers.Input([width]),
            tf_keras.layers.Dropout(dropout, seed=seed),
            tf_keras.layers.Dense(classes, name=HEAD_NAME, kernel_initializer="zeros"),
        ],
        name="classifier_head",
    )


def make_loss() -> tf_keras.losses.Loss:
    """The loss of both phases: the models give logits, never probabilities, until they are exported."""
    return tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
