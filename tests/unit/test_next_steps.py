"""What to try next: only what the numbers of the run support, and every command can be given as it stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.next_steps import MOST_STEPS, next_steps
from pipeline.config import Config, load_config
from schemas.json_records import from_json, to_json
from schemas.summary import NextStep, Summary

AGAIN = "warmstart run --config config.yaml --root runs/pets"
# As large as the backbone was trained at, so that nothing else is in the way.
FULL_SIZE = "image.size=224"


def config(*overrides: str) -> Config:
    return load_config("cats_vs_dogs", ["image.size=160", *overrides], ["photos"])


def summary(
    accuracy: float = 0.9,
    difference: float = 0.0,
    photos_to_show: int | None = None,
    best_epoch: int = 2,
    epochs: int = 3,
    strategy: str = "top",
    accepted: tuple[int, int, int] = (800, 100, 100),
    **more: Any,
) -> Summary:
    """A run whose fine-tuning ended as given."""
    interval = {"value": accuracy, "low": accuracy, "high": 1.0}
    training = {"epochs": epochs, "best_epoch": best_epoch, "strategy": strategy}
    found = {
        "run_id": "a",
        "status": "pushed",
        "reason": "",
        "production": {},
        "data": {"accepted": dict(zip(("train", "eval", "test"), accepted, strict=True))},
        "models": {
            "feature_extraction": {"accuracy": interval},
            "fine_tuned": {"accuracy": interval, "training": training},
        },
        "winner": "feature_extraction",
        "verdict": {"text": "", "difference": difference, "interval": [0.0, 0.0], "photos_to_show": photos_to_show},
        **more,
    }
    return from_json(Summary, found)


def actions(found: Summary, config: Config, again: str = AGAIN, **more: Any) -> list[str]:
    return [step.action.removeprefix(f"{AGAIN} --set ") for step in next_steps(found, config, again, **more)]


def test_a_run_that_says_nothing_suggests_nothing():
    assert actions(summary(), config(FULL_SIZE)) == []


def test_a_model_that_was_pushed_can_be_served_first_of_all():
    serve = "warmstart serve --root runs/pets"
    assert actions(summary(accuracy=1.0), config(), serve=serve) == [serve]
    assert actions(summary(), config(), serve=serve) == [serve, "image.size=224"]
    assert actions(summary(status="not_pushed"), config(), serve=serve) == ["image.size=224"]


@pytest.mark.parametrize("found", [summary(models=None), summary(winner=None), summary(accuracy=1.0)])
def test_without_models_or_without_mistakes_there_is_nothing_to_try(found):
    assert actions(found, config(), suspected_labels=3) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["image.size=224"]),
        (["backbone.handle=efficientnet_lite2", "image.size=224"], ["image.size=260"]),
        (["image.size=224"], []),
        (["image.size=300"], []),
        (["backbone.handle=https://example.org/vector"], []),  # nobody knows what it was trained at
    ],
)
def test_larger_images_up_to_what_the_backbone_was_trained_at(overrides, expected):
    assert actions(summary(), config(*overrides)) == expected


def test_the_reason_has_the_numbers():
    [step] = next_steps(summary(accuracy=0.875), config(), AGAIN)
    assert step == NextStep(
        action=f"{AGAIN} --set image.size=224",
        reason="efficientnet_lite0 was trained on images of 224 pixels, this run used 160, and 12.5% of the test "
        "photos are answered wrongly",
    )
    [step] = next_steps(summary(), config())
    assert step.action == "the same command with --set image.size=224"


@pytest.mark.parametrize(("suspects", "photos"), [(1, "1 photo"), (100, "100 photos")])
def test_labels_that_may_be_wrong_are_to_be_reviewed(suspects, photos):
    [step] = next_steps(summary(), config(FULL_SIZE), AGAIN, suspected_labels=suspects)
    assert "Suspected wrong labels" in step.action
    assert step.reason == f"the labels of {photos} may be wrong, and 10.0% of the test photos are answered wrongly"
    command = "warmstart serve --review run --root runs/x"
    [step] = next_steps(summary(), config(FULL_SIZE), AGAIN, suspects, command)
    assert step.action == command


def test_where_every_tenth_label_is_suspected_it_is_the_model_that_is_wrong():
    assert actions(summary(), config(FULL_SIZE), suspected_labels=101) == []


@pytest.mark.parametrize(
    ("photos_to_show", "accepted", "expected"),
    [
        (250, (800, 100, 100), ["data.splits.eval=4"]),  # 8 * 250 / 650, rounded up
        (101, (800, 100, 100), ["data.splits.eval=2"]),
        (301, (800, 100, 100), ["add photos until the eval split has about 301"]),  # a third of 900
        (150, (500, 400, 100), []),  # more than that already
        (220, (600, 200, 200), ["add photos until the eval split has about 220"]),  # the folders' own splits
        (None, (800, 100, 100), []),
    ],
)
def test_so_many_eval_photos_would_show_the_gain(photos_to_show, accepted, expected):
    found = summary(photos_to_show=photos_to_show, accepted=accepted)
    assert actions(found, config(FULL_SIZE)) == expected


def test_of_a_window_all_eval_photos_count():
    window = {"data": {"accepted": {"train": 800, "eval": 120, "test": 100}}}
    found = summary(photos_to_show=200, window=window)
    [step] = next_steps(found, config(FULL_SIZE), AGAIN)
    assert step.action == "add photos until the eval split has about 200"
    assert step.reason == "the gain of fine-tuning was not shown on 120 eval photos; about 200 would show it"


@pytest.mark.parametrize(
    ("difference", "strategy", "override", "expected"),
    [
        (0.03, "top", "training.seed=1", ["training.fine_tuning.strategy=all"]),
        (0.0, "top", "training.seed=1", []),
        (-0.03, "top", "training.seed=1", []),
        (0.03, "all", "training.fine_tuning.strategy=all", []),
        (0.03, "top", "training.fine_tuning.unfreeze_fraction=0.5", []),  # it would be refused with `all`
    ],
)
def test_more_of_the_backbone_where_its_top_gained(difference, strategy, override, expected):
    found = summary(difference=difference, strategy=strategy)
    assert actions(found, config(FULL_SIZE, override)) == expected


@pytest.mark.parametrize(
    ("best_epoch", "epochs", "expected"),
    [
        (5, 5, ["training.fine_tuning.epochs=10"]),
        (4, 5, []),
        (3, 5, ["training.augmentation.mode=views"]),
        (0, 3, ["training.augmentation.mode=views"]),
        (2, 2, []),  # a warm start had it end there
        (0, 0, []),
    ],
)
def test_the_curve_of_fine_tuning_says_which_way_to_go(best_epoch, epochs, expected):
    found = summary(best_epoch=best_epoch, epochs=epochs)
    assert actions(found, config(FULL_SIZE, "training.fine_tuning.epochs=5")) == expected
    with_views = config(FULL_SIZE, "training.fine_tuning.epochs=5", "training.augmentation.mode=views")
    assert actions(found, with_views) == [step for step in expected if "views" not in step]


def test_no_more_than_three_and_they_are_kept_in_the_summary():
    found = summary(difference=0.03, photos_to_show=250, best_epoch=0, epochs=3)
    steps = next_steps(found, config(), AGAIN, suspected_labels=4)
    assert len(steps) == MOST_STEPS == 3
    told = to_json(replace(found, next_steps=steps))
    assert told["next_steps"][0] == {"action": f"{AGAIN} --set image.size=224", "reason": steps[0].reason}
    assert from_json(Summary, told).next_steps == steps
    assert from_json(Summary, {**told, "next_steps": []}).next_steps == []


@settings(max_examples=60, deadline=None)
@given(
    difference=st.floats(-0.2, 0.2),
    photos_to_show=st.none() | st.integers(1, 5000),
    curve=st.integers(0, 20).flatmap(lambda epochs: st.tuples(st.integers(0, epochs), st.just(epochs))),
    accepted=st.tuples(st.integers(0, 3000), st.integers(0, 500), st.integers(0, 500)),
)
def test_every_setting_is_one_that_the_configuration_takes(difference, photos_to_show, curve, accepted):
    best_epoch, epochs = curve
    found = summary(0.9, difference, photos_to_show, best_epoch, epochs, "top", accepted)
    for action in actions(found, config("training.fine_tuning.epochs=20")):
        if "=" in action:
            assert config("training.fine_tuning.epochs=20", action) != config("training.fine_tuning.epochs=20")


# ---- masks


def of_masks(**more: Any) -> Summary:
    """A run of masks in which two masks are doubtful."""
    found = to_json(summary(**more))
    measured = {"value": 0.72, "low": 0.7, "high": 0.74}
    for model in found["models"].values():
        model |= {"mean_iou": measured, "per_class": {label: {"examples": 9} for label in ("pet", "border", "rest")}}
    return from_json(Summary, found)


def test_of_masks_larger_images_and_doubtful_masks_are_suggested_by_the_mean_iou():
    settings = load_config("oxford_iiit_pet_masks", ["image.size=160"], ["photos"])
    steps = next_steps(of_masks(accuracy=1.0), settings, AGAIN, 2)
    assert [step.action for step in steps][:2] == [
        f"{AGAIN} --set image.size=224",
        'review the photos listed under "Suspected wrong masks" on the page of this run, and run again',
    ]
    assert "with which masks get finer" in steps[0].reason
    for step in steps[:2]:
        assert step.reason.endswith("the mean IoU over 3 classes is 72.0%")
    assert steps[1].reason.startswith("the masks of 2 photos may be wrong")
    command = "warmstart serve --review run --root runs/x"
    assert next_steps(of_masks(accuracy=1.0), settings, AGAIN, 2, command)[1].action == command
