"""`summary.json`: the contract between a run and whoever reads about it.

What the summaries of older versions lack has a default. A part that the run did not come to is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.json_records import OPTIONAL, from_json
from schemas.release import Interval
from schemas.run_end import Step
from schemas.verdicts import DriftVerdict, EnsembleComparison, LossComparison, ReleaseVerdict, ServableVerdict

SCHEMA_VERSION = 1


# ---- data


@dataclass(frozen=True, kw_only=True)
class RejectedFile:
    """detail: a sentence that names the file and the reason. label: the class that it was meant for; empty: its place
    does not say.
    """

    dataset: str = ""
    file_name: str = ""
    reason: str = ""
    detail: str = ""
    label: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """layouts: data set -> how its folder was understood. accepted: photos by split; classes: by split and class.
    formats, converted: photos by image format, all and those that were converted. rejected, left_out: files by reason.
    notes: what else should be known, a sentence each.
    """

    layouts: dict[str, str] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    converted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_files: list[RejectedFile] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def class_counts(self) -> dict[str, int]:
        """Accepted photos of each class, over all splits; the classes with the most photos first, then by name."""
        totals: dict[str, int] = {}
        for counts in self.classes.values():
            for label, count in counts.items():
                totals[label] = totals.get(label, 0) + count
        return dict(sorted(totals.items(), key=lambda total: (-total[1], total[0])))


@dataclass(frozen=True, kw_only=True)
class WindowSummary:
    """With `data.window`. spans: those trained or tested on; left_out: span -> why; both as a person writes spans.
    data: of all of them; a run that was stopped before they were put together has none.
    """

    spans: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    data: DataSummary | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class VectorsSummary:
    """frozen_pass: how the frozen backbone ran. cut: where it is cut, or why not. computed, reused: photos that passed
    through it, and that it had seen before. dropped_as_damaged: stored vectors that were computed anew.
    """

    frozen_pass: str = ""
    cut: str = ""
    computed: int = 0
    reused: int = 0
    dropped_as_damaged: int | None = field(default=None, metadata=OPTIONAL)


# ---- models


@dataclass(frozen=True, kw_only=True)
class WarmStartSummary:
    """source: in words. step_zero: what the comparison with the source gave, in words. matched, unused: how many
    variables. The rest: names of variables and classes.
    """

    source: str
    step_zero: str = ""
    matched: int = 0
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: int = 0
    new_classes: list[str] = field(default_factory=list)
    dropped_classes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CalibrationSummary:
    """The losses are means over the eval split."""

    temperature: float
    eval_loss_before: float
    eval_loss_after: float


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """epochs, trainable_variables, trainable_parameters: how many. resumed_from: epochs that an interrupted training
    had done. learning_rate: the peak.
    """

    epochs: int
    best_epoch: int
    resumed_from: int = 0
    learning_rate: float | None = None
    trainable_variables: int = 0
    trainable_parameters: int | None = None
    strategy: str | None = None
    strategy_reason: str | None = None
    trained_on: str | None = None
    devices: str | None = None
    calibration: CalibrationSummary | None = None
    warm_start: WarmStartSummary | None = None

    @classmethod
    def of_history(cls, history: Mapping[str, Any]) -> TrainingSummary:
        """What `training.json` says beside the curves.

        Raises:
          ValueError: it is none.
        """
        numbers = {key: len(history[key]) for key in ("epochs", "trainable_variables")}
        warm_start = history.get("warm_start")
        if warm_start is not None:
            # The matched and unused variables are many; the names of the others one may ask for.
            warm_start = {**warm_start, **{key: len(warm_start[key]) for key in ("matched", "unused")}}
        return from_json(cls, {**history, **numbers, "warm_start": warm_start})


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """Of the photos of one class; None: undefined."""

    examples: int
    precision: Interval | None = None
    recall: Interval | None = None
    f1: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """below: the confidence under which the model gives no answer. abstained: share of the photos, in [0, 1]."""

    below: float
    abstained: float
    accuracy_of_answered: Interval | None


@dataclass(frozen=True, kw_only=True)
class SliceMetrics:
    """enough: whether the photos are enough for anything to be concluded from them."""

    examples: int
    accuracy: Interval
    enough: bool


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """A model on the test split, see `components.evaluator.metrics.evaluate`.

    confusion_matrix: photos by true class (row) and first answer (column), in the order of `per_class`. slices: feature
    -> value -> its metrics.
    """

    split: str = "test"
    examples: int | None = None
    accuracy: Interval
    loss: Interval | None = None
    calibration_error: Interval | None = None
    top_3_accuracy: Interval | None = field(default=None, metadata=OPTIONAL)
    auc: Interval | None = field(default=None, metadata=OPTIONAL)
    per_class: dict[str, ClassMetrics] = field(default_factory=dict)
    confusion_matrix: list[list[int]] = field(default_factory=list)
    abstention: Abstention | None = field(default=None, metadata=OPTIONAL)
    slices: dict[str, dict[str, SliceMetrics]] = field(default_factory=dict)
    training: TrainingSummary | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class FurtherSummary:
    """The models on the further data sets. left_out_as_learnt_from: photos that a model has learnt from."""

    models: dict[str, ModelSummary]
    data: DataSummary | None = field(default=None, metadata=OPTIONAL)
    left_out_as_learnt_from: int | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What ModelSelector found on the eval split: the gain of fine-tuning, in [-1, 1], with its interval. identical,
    loss: see `SelectionVerdict`.
    """

    text: str
    difference: float
    interval: list[float]
    p_value: float | None = None
    ensemble: EnsembleComparison | None = field(default=None, metadata=OPTIONAL)
    photos_to_show: int | None = None
    identical: bool = False
    loss: LossComparison | None = None


# ---- the run


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """What may be worth trying after a run. action: a command, or what to do where no command does it. reason: a
    sentence with the numbers of the run that speak for it.
    """

    action: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ProductionSummary:
    """before, after: the version in production before and after the run. folder: where the versions lie."""

    before: str | None = None
    after: str | None = None
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did. models: name -> what it reaches on the test split. versions: of what ran. data_fingerprint: of
    the photos. lineage: node -> output -> numbers of its artifacts in ML Metadata. next_steps: the most promising
    first.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str
    config: dict[str, Any] | None = None
    status: str
    reason: str
    nodes: list[Step] = field(default_factory=list)
    data: DataSummary | None = None
    window: WindowSummary | None = None
    vectors: VectorsSummary | None = None
    drift: DriftVerdict | None = None
    models: dict[str, ModelSummary] | None = None
    further: FurtherSummary | None = None
    winner: str | None = None
    verdict: Choice | None = None
    release: ReleaseVerdict | None = None
    servable: ServableVerdict | None = None
    production: ProductionSummary
    versions: dict[str, str] = field(default_factory=dict)
    data_fingerprint: str | None = None
    lineage: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    next_steps: list[NextStep] = field(default_factory=list)
    duration_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of the configuration; empty: none could be read."""
        return str((self.config or {}).get("name", ""))
