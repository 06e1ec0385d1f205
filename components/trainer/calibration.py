"""Calibration: fits a temperature on the eval split, by which the exported model divides its logits.

Temperature scaling of Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2
(https://arxiv.org/abs/1706.04599). It changes how confident the model is, never its top answer.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from components.trainer.calibrated_loss import GREATEST_TEMPERATURE, LEAST_TEMPERATURE
from components.trainer.devices import even_batch_size
from components.trainer.model import Classifier
from components.trainer.settings import PhaseSettings
from components.trainer.training_data import TrainingData
from schemas.errors import BadInput

_NAMED_PHOTOS = 5


def log_loss(logits: np.ndarray, classes: np.ndarray, temperature: float) -> float:
    """Mean negative log likelihood of softmax(logits / temperature).

    Args:
      logits: float [examples, classes].
      classes: int [examples], the true ones.
      temperature: above 0.
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(classes)), classes]))


def fit_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """The temperature that makes the true classes most likely; deterministic.

    The likelihood alone does not always have an optimum: if every answer is right, as on a few easy photos, it tends to
    0, and if too many are wrong, to infinity. So log T has a Gaussian prior around 0 with a standard deviation of 1.
    The prior weighs as much as a handful of photos, and hundreds of photos outweigh it.

    Args:
      logits: float [examples, classes], finite.
      classes: int [examples], the true ones.

    Returns:
      From `LEAST_TEMPERATURE` to `GREATEST_TEMPERATURE`.

    Raises:
      ValueError: there are no examples, or a logit is not finite.
    """
    if not len(classes) or not np.isfinite(logits).all():
        found = f"{np.count_nonzero(~np.isfinite(logits))} that are not finite" if len(classes) else "none"
        raise ValueError(f"fitting a temperature needs finite logits of at least one example; found {found}")

    def loss(log_temperature: float) -> float:
        return len(classes) * log_loss(logits, classes, np.exp(log_temperature)) + log_temperature**2 / 2

    # With the prior the loss may have two minima, where logits are next to nothing: the lower one is looked for first.
    grid = np.linspace(np.log(LEAST_TEMPERATURE), np.log(GREATEST_TEMPERATURE), 25)
    lowest = int(np.argmin([loss(point) for point in grid]))
    around = grid[max(lowest - 1, 0)], grid[min(lowest + 1, len(grid) - 1)]
    return float(np.exp(optimize.minimize_scalar(loss, bounds=around, method="bounded").x))


def calibrate(model: Classifier, eval_data: TrainingData, settings: PhaseSettings) -> dict[str, float]:
    """Fits the temperature, and returns the part of the training history on calibration.

    Args:
      model: inputs to logits, at its best epoch; `predict` gives them with the true classes, those of a mask's pixels
        on an axis of their own.
      eval_data: the eval split as the model's inputs.
      settings: `calibrate` and the batch size.

    Returns:
      `temperature`, `eval_loss_before` and `eval_loss_after` (log losses of the eval split at a temperature of 1 and at
      this one); only a `temperature` of 1 without `calibrate`.

    Raises:
      BadInput: a logit is not finite; the message names photos.
    """
    if not settings.calibrate:
        return {"temperature": 1.0}
    replicas = model.distribute_strategy.num_replicas_in_sync
    batches = eval_data.in_order(even_batch_size(len(eval_data), settings.batch_size, replicas))
    logits, classes = model.predict(batches, verbose=0)
    if not np.isfinite(logits).all():
        names = [name.decode() for *_, batch in batches.as_numpy_iterator() for name in batch]
        rows = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
        raise BadInput(
            f"the model's logits for {len(rows)} of {len(names)} eval photos are not finite, so no temperature can be "
            f"fitted ({', '.join(names[row] for row in rows[:_NAMED_PHOTOS])}): remove these photos, lower the "
            "learning rate, or set training.calibrate=false"
        )
    # Of masks: the pixels that count.
    logits, classes = logits.reshape(-1, logits.shape[-1])[classes.ravel() >= 0], classes[classes >= 0]
    temperature = fit_temperature(logits, classes)
    return {
        "temperature": temperature,
        "eval_loss_before": log_loss(logits, classes, 1.0),
        "eval_loss_after": log_loss(logits, classes, temperature),
    }
