"""The recipe of fine-tuning: what learns, how long and how fast, by how far the task is from ImageNet.

Measured by `benchmarks/fine_tuning_defaults.py`; the table is in docs/measurements.md.
"""

from __future__ import annotations

from typing import Any

from components.backbone.freezing import choose_strategy
from components.trainer.settings import FineTuningSettings

# Times the rate of a task near ImageNet.
FAR_RATE = 10.0
NEAR_EPOCHS = 3
# Far from ImageNet a training sees about this many photos, in no fewer and no more epochs than these.
FAR_PHOTOS, FAR_EPOCHS, MOST_EPOCHS = 6000, 4, 10


def far_epochs(photos: int) -> int:
    """The epochs of a task far from ImageNet with so many training photos."""
    return max(FAR_EPOCHS, min(MOST_EPOCHS, round(FAR_PHOTOS / max(photos, 1))))


def by_task(
    settings: FineTuningSettings, photos: int, classes: int, frozen_accuracy: float
) -> tuple[FineTuningSettings, str]:
    """The settings with everything filled in that depends on the task.

    Args:
      settings: as configured; what the configuration sets is kept.
      photos: number of photos in the training split.
      classes: number of classes, at least 2.
      frozen_accuracy: range [0, 1], accuracy of the first phase's model on the eval split.

    Returns:
      Settings whose strategy is not `auto`, and whether the task is near ImageNet or far from it, with the numbers.
    """
    choice = choose_strategy(photos, classes, frozen_accuracy)
    far = not choice.similar
    values: dict[str, Any] = {}
    if settings.strategy == "auto":
        values["strategy"] = choice.strategy
        if far and settings.unfreeze_far is not None:
            values["unfreeze"] = settings.unfreeze_far
    if settings.epochs_by_task:
        values["epochs"] = far_epochs(photos) if far else NEAR_EPOCHS
    if settings.rate_by_task and far:
        values["learning_rate"] = settings.learning_rate * settings.far_rate
    numbers = choice.why.removeprefix(f"{choice.strategy}: ")
    return settings.replaced(**values), f"{'far from' if far else 'near'} ImageNet: {numbers}"
