"""What to do after a run: use the model if there is a new one, and what its own numbers say may be worth trying."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from components.backbone.registry import BACKBONES
from schemas.summary import NextStep

if TYPE_CHECKING:
    from pipeline.config import Config
    from schemas.summary import DataSummary, Summary, TrainingSummary

MOST_STEPS = 3
# Epochs after the best one, all of them with a larger eval loss, from which on a training is said to have overfitted.
_EPOCHS_OF_OVERFITTING = 2
# Share of the photos: of more than these it is the model that is wrong rather than the labels.
_MOST_SUSPECTED = 0.1


def next_steps(
    summary: Summary, config: Config, again: str = "", suspected_labels: int = 0, review: str = "", serve: str = ""
) -> list[NextStep]:
    """Serving a model that was pushed, and up to three things to try, the most promising first.

    There is nothing to try where the run measured no models, or the winner made no mistake.

    Args:
      again: a command that does this run again; empty: none is known.
      suspected_labels: photos whose label or mask is perhaps wrong.
      review: a command that shows these photos; empty: none is known.
      serve: a command that serves what is in production; empty: none is known.
    """
    tries = _tries(summary, config, again, suspected_labels, review)
    if summary.status != "pushed" or not serve:
        return tries
    return [NextStep(action=serve, reason="answers photos with the new model, in a browser and for programs"), *tries]


def _tries(summary: Summary, config: Config, again: str, suspected_labels: int, review: str) -> list[NextStep]:
    winner = (summary.models or {}).get(summary.winner or "")
    if winner is None or winner.score.value >= 1:
        return []
    wrong = f"{1 - winner.accuracy.value:.1%} of the test photos are answered wrongly"
    if winner.mean_iou:
        wrong = f"the mean IoU over {len(winner.per_class)} classes is {winner.mean_iou.value:.1%}"

    def with_setting(setting: str, reason: str) -> NextStep:
        action = f"{again} --set {setting}" if again else f"the same command with --set {setting}"
        return NextStep(action=action, reason=reason)

    steps = []
    backbone = BACKBONES.get(config.backbone.handle)
    if backbone and config.image.size < backbone.input_size:
        trained_at = f"{backbone.name} was trained on images of {backbone.input_size} pixels"
        if winner.mean_iou:
            trained_at += ", with which masks get finer"
        reason = f"{trained_at}, this run used {config.image.size}, and {wrong}"
        steps.append(with_setting(f"image.size={backbone.input_size}", reason))
    if 0 < suspected_labels <= _MOST_SUSPECTED * _photos(summary):
        which = "1 photo" if suspected_labels == 1 else f"{suspected_labels:,} photos"
        what = "masks" if winner.mean_iou else "labels"
        on_page = f'review the photos listed under "Suspected wrong {what}" on the page of this run, and run again'
        steps.append(NextStep(action=review or on_page, reason=f"the {what} of {which} may be wrong, and {wrong}"))
    if photos_to_show := _photos_to_show(summary):
        needed, found = photos_to_show
        reason = f"the gain of fine-tuning was not shown on {found:,} eval photos; about {needed:,} would show it"
        if buckets := _eval_buckets(summary, config, needed):
            steps.append(with_setting(f"data.splits.eval={buckets}", reason))
        else:
            steps.append(NextStep(action=f"add photos until the eval split has about {needed:,}", reason=reason))
    fine_tuned = (summary.models or {}).get("fine_tuned")
    training = fine_tuned.training if fine_tuned else None
    if training and training.epochs:
        steps += [with_setting(setting, reason) for setting, reason in _of_training(training, summary, config)]
    return steps[:MOST_STEPS]


def _of_training(training: TrainingSummary, summary: Summary, config: Config) -> list[tuple[str, str]]:
    """Settings of fine-tuning that its own curve speaks for, each with the reason."""
    fine_tuning, found = config.training.fine_tuning, []
    gain = summary.verdict.difference if summary.verdict else 0.0
    # A boundary that was chosen by hand belongs to strategy top, and another strategy would be refused with it.
    by_hand = (
        fine_tuning.unfreeze,
        fine_tuning.unfreeze_blocks,
        fine_tuning.unfreeze_last,
        fine_tuning.unfreeze_fraction,
    )
    if training.strategy == "top" and gain > 0 and not any(by_hand):
        reason = f"training the top of the backbone gained {100 * gain:.1f} points on the eval photos"
        found.append(("training.fine_tuning.strategy=all", f"{reason}, and training all of it may gain more"))
    chosen = training.epochs if fine_tuning.epochs is None else fine_tuning.epochs
    if training.best_epoch == training.epochs == chosen:
        reason = f"fine-tuning was still getting better in the last of its {training.epochs} epochs"
        found.append((f"training.fine_tuning.epochs={2 * chosen}", reason))
    overfitted = training.epochs - training.best_epoch >= _EPOCHS_OF_OVERFITTING
    if overfitted and config.training.augmentation.mode == "none":
        since = f"after epoch {training.best_epoch}" if training.best_epoch else "from the start"
        reason = f"fine-tuning got no better on the eval photos {since}, in {training.epochs} epochs"
        found.append(("training.augmentation.mode=views", f"{reason}, and augmented copies of the photos delay that"))
    return found


def _photos(summary: Summary) -> int:
    data = _data(summary)
    return sum(data.accepted.values()) if data else 0


def _data(summary: Summary) -> DataSummary | None:
    return summary.window.data if summary.window and summary.window.data else summary.data


def _photos_to_show(summary: Summary) -> tuple[int, int] | None:
    """How many eval photos would show the gain of fine-tuning, and how many there were; None: no gain was found."""
    data = _data(summary)
    if summary.verdict is None or summary.verdict.photos_to_show is None or data is None:
        return None
    found = data.accepted.get("eval", 0)
    return (summary.verdict.photos_to_show, found) if summary.verdict.photos_to_show > found > 0 else None


def _eval_buckets(summary: Summary, config: Config, needed: int) -> int | None:
    """The buckets that give the eval split so many of this run's photos.

    None: the buckets do not seem to have made the splits (the folders have, say), or a third of the photos that are
    learnt from and chosen by would not be enough.
    """
    if summary.window or summary.data is None:
        return None
    splits, found = config.data.splits, summary.data.accepted
    photos, share = found.get("train", 0) + found.get("eval", 0), splits.eval / (splits.train + splits.eval)
    by_chance = math.sqrt(photos * share * (1 - share))
    if needed > photos / 3 or abs(found.get("eval", 0) - photos * share) > 4 * by_chance:
        return None
    return max(splits.eval + 1, math.ceil(splits.train * needed / (photos - needed)))
