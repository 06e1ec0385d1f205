"""The recipe of fine-tuning: near ImageNet and far from it, by the run's own numbers."""

from __future__ import annotations

import pytest

from components.backbone.unfreezing import Unfreezing
from components.trainer import recipe
from components.trainer.settings import FineTuningSettings
from pipeline.config import load_config
from pipeline.places import Places
from pipeline.trainer_settings import trainer_settings

PLACES = Places("artifacts", "serving", vectors="vectors", resume="resume")
NEAR, FAR = 0.98, 0.62  # accuracy of the first phase


def settings(*overrides: str) -> FineTuningSettings:
    given = [f"training.fine_tuning.{override}" for override in overrides]
    return trainer_settings(load_config("cats_vs_dogs", given, ["photos"]), PLACES).fine_tuning


def test_near_imagenet_little_learns_and_slowly():
    chosen, why = recipe.by_task(settings(), 4000, 2, NEAR)
    assert (chosen.strategy, chosen.epochs, chosen.learning_rate) == ("top", recipe.NEAR_EPOCHS, pytest.approx(1e-4))
    assert chosen.unfreeze == settings().unfreeze
    assert why.startswith("near ImageNet: 2,000 training photos per class are much data")


def test_far_from_imagenet_half_of_the_kernels_learn_at_the_rate_of_phase_one():
    chosen, why = recipe.by_task(settings(), 1411, 4, FAR)
    assert (chosen.strategy, chosen.epochs, chosen.learning_rate) == ("top", 4, pytest.approx(1e-3))
    assert chosen.unfreeze == settings().unfreeze_far
    assert why == (
        "far from ImageNet: 353 training photos per class are little data (much: at least 1,000). Frozen features "
        "remove 49.3% of the error of guessing (accuracy 62.0% over 4 classes), so the task is different from ImageNet "
        "(similar: at least 80%)"
    )


@pytest.mark.parametrize(("photos", "epochs"), [(0, 10), (50, 10), (600, 10), (1000, 6), (1411, 4), (20_000, 4)])
def test_few_photos_are_seen_more_often(photos, epochs):
    assert recipe.far_epochs(photos) == epochs


@pytest.mark.parametrize("accuracy", [NEAR, FAR])
def test_what_the_configuration_sets_is_kept(accuracy):
    configured = settings("epochs=7", "learning_rate=2e-4", "strategy=all")
    assert recipe.by_task(configured, 1411, 2, accuracy)[0] == configured
    configured = settings("epochs=7", "learning_rate=2e-4", "unfreeze_last=1")
    assert configured.strategy == "top"
    assert recipe.by_task(configured, 1411, 2, accuracy)[0].unfreeze == Unfreezing(last=1)


def test_the_depthwise_kernels_of_a_built_in_backbone_stay_frozen_far_from_imagenet():
    far = settings().unfreeze_far
    assert far is not None
    assert far.pattern is not None
    assert "dw" not in far.pattern
    assert settings("strategy=top").unfreeze_far is None
    other = load_config("cats_vs_dogs", ["backbone.handle=https://example.org/vector"], ["photos"])
    assert trainer_settings(other, PLACES).fine_tuning.unfreeze_far == Unfreezing(fraction=0.5)
