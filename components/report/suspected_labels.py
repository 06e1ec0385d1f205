"""Photos that may have the wrong label: a model that has not seen the photo is confident of another class.

Source: Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.1. The
threshold of a class is the mean probability of that class over the photos labelled with it, so a class that models are
never confident of gets a low threshold. A photo is suspected if another class than its label reaches its threshold.

Every photo is judged by a model that was trained without it (5 folds): logistic regression on standardised feature
vectors.

With 5 % of the labels replaced by wrong ones, means of four draws, EfficientNet-Lite0 at 160 pixels:

| photos | suspects that are planted | of the first 20 | planted that are suspected | true class suggested |
|---|---|---|---|---|
| 460 of cats_vs_dogs | 93 % | 95 % | 79 % | 100 % |
| 415 of Oxford-IIIT Pets, 11 a breed | 35 % | 62 % | 67 % | 87 % |

With few photos and similar classes, most suspects are labelled correctly and are merely hard. They are listed with the
most likely mistakes first, and a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

FOLDS = 5
# How much large weights cost, over the number of photos. With 1 in its place fewer of the suspected were planted, 83
# and 28 %.
_PENALTY = 100.0
_MOST_STEPS = 100
_STEEP_ENOUGH = 3e-3  # the largest slope at which the optimiser goes on


@dataclass(frozen=True)
class Suspect:
    """A photo that may have the wrong label."""

    row: int  # of the photo
    suggested: int  # class index
    probability: float  # of the suggested class
    of_label: float  # probability of the label


def out_of_fold(vectors: np.ndarray, classes: np.ndarray, seed: int) -> np.ndarray:
    """Probabilities from models that have not seen the photo, float32 [photos, classes].

    Args:
      vectors: float of any precision [photos, width]; one fold at a time is copied in single precision.
      classes: int [photos], from 0; each class has at least two photos.
    """
    probabilities = np.zeros((len(classes), int(classes.max()) + 1), np.float32)
    folds = _folds(classes, seed)
    for fold in range(FOLDS):
        held = folds == fold
        if held.any():
            model = _LogisticRegression(vectors[~held], classes[~held], probabilities.shape[1])
            probabilities[held] = model.probabilities(vectors[held])
    return probabilities


class _LogisticRegression:
    """Multinomial logistic regression with an L2 penalty on standardised vectors.

    scikit-learn's version gives the same answers but needs ten times the memory of the vectors.
    """

    def __init__(self, vectors: np.ndarray, classes: np.ndarray, count: int):
        """Trains on the vectors; `count` is the number of classes."""
        self._mean, self._deviation = vectors.mean(axis=0, dtype=np.float32), np.float32(1)
        learnt = self._standardised(vectors)
        self._deviation = np.sqrt(np.einsum("ij,ij->j", learnt[:, :-1], learnt[:, :-1]) / len(learnt)) + 1e-6
        learnt[:, :-1] /= self._deviation
        shape = (learnt.shape[1], count)
        found = minimize(
            lambda flat: _loss(learnt, classes, flat.reshape(shape)),
            np.zeros(shape).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MOST_STEPS, "gtol": _STEEP_ENOUGH},
        )
        self._weights = found.x.reshape(shape).astype(np.float32)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [n, classes]."""
        return softmax(self._standardised(vectors) @ self._weights, axis=1)

    def _standardised(self, vectors: np.ndarray) -> np.ndarray:
        """With a 1 at the end, float32 [n, width + 1]."""
        rows = np.ones((len(vectors), vectors.shape[1] + 1), np.float32)
        rows[:, :-1] = vectors
        rows[:, :-1] -= self._mean
        rows[:, :-1] /= self._deviation
        return rows


def _loss(learnt: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The penalised mean loss, and its gradient, float64 [weights]."""
    penalised = weights.copy()
    penalised[-1] = 0  # not the biases
    probabilities = softmax(learnt @ weights.astype(np.float32), axis=1)
    true = np.arange(len(classes)), classes
    loss = _PENALTY / 2 * float(np.sum(penalised**2)) - float(np.log(np.maximum(probabilities[true], 1e-30)).sum())
    probabilities[true] -= 1
    gradient = _PENALTY * penalised + learnt.T @ probabilities
    return loss / len(classes), gradient.ravel() / len(classes)


def _folds(classes: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each photo, int [photos]; the photos of a class are dealt out in random order."""
    generator = np.random.default_rng(seed)
    folds = np.zeros(len(classes), np.int64)
    dealt = 0
    for label in range(int(classes.max()) + 1):
        rows = generator.permutation(np.flatnonzero(classes == label))
        folds[rows] = (dealt + np.arange(len(rows))) % FOLDS
        dealt += len(rows)
    return folds


def suspects(probabilities: np.ndarray, classes: np.ndarray) -> list[Suspect]:
    """The suspected photos, sorted by how much more likely the suggested class is than the label.

    A class is only suggested if it is also the likeliest: with few photos per class the thresholds are low, and half of
    the suspects would be labelled correctly.

    Args:
      probabilities: from `out_of_fold`.
      classes: int [photos], the labels.
    """
    rows = np.arange(len(classes))
    of_label = probabilities[rows, classes]
    counts = np.bincount(classes, minlength=probabilities.shape[1])
    thresholds = np.bincount(classes, of_label, probabilities.shape[1]) / np.maximum(counts, 1)
    likeliest = probabilities.argmax(axis=1)
    highest = probabilities[rows, likeliest]
    wrong = (likeliest != classes) & (highest >= thresholds[likeliest])
    order = sorted(np.flatnonzero(wrong), key=lambda row: (of_label[row] - highest[row], row))
    return [Suspect(int(r), int(likeliest[r]), float(highest[r]), float(of_label[r])) for r in order]
