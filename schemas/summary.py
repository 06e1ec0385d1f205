"""`summary.json`: the contract between a run and its readers.

Fields that summaries from older versions lack have defaults. A part that the run did not reach is None.
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
    """A file that was meant as a photo but cannot be used."""

    dataset: str = ""
    file_name: str = ""
    reason: str = ""
    detail: str = ""
    """One sentence that names the file and the reason."""
    label: str | None = field(default=None, metadata=OPTIONAL)
    """The class that the file was meant for; empty if its place does not say."""
    content_hash: str | None = field(default=None, metadata=OPTIONAL)
    """SHA-256 of the file; None if it was not read."""


@dataclass(frozen=True, kw_only=True)
class CorrectedPhoto:
    """A photo that `data.corrections` is about."""

    dataset: str = ""
    file_name: str = ""
    content_hash: str = ""
    split: str = ""
    old_label: str = ""
    """The label that its place gives it."""
    new_label: str = ""
    """Empty: the photo was dropped; the same as `old_label`: its place has been corrected too."""
    who: str = ""
    when: str = ""
    answer: str | None = field(default=None, metadata=OPTIONAL)
    """What the winner of the run answers now; None: it was not asked."""
    probability: float | None = field(default=None, metadata=OPTIONAL)
    """Of the answer, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class CorrectionsSummary:
    """What `data.corrections` did."""

    changed: int = 0
    """Number of photos with another label than their place gives them."""
    dropped: int = 0
    """Number of photos that are not used."""
    unmatched: dict[str, str] = field(default_factory=dict)
    """Content hash -> file name, of each correction that matches no photo."""
    photos: list[CorrectedPhoto] = field(default_factory=list)
    """The last corrected first."""


@dataclass(frozen=True, kw_only=True)
class PixelClass:
    """One class of the pixels in the masks of a split."""

    photos: int
    """Photos that show it."""
    pixels: int


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """The photos of a run."""

    layouts: dict[str, str] = field(default_factory=dict)
    """Data set -> layout of its folder."""
    accepted: dict[str, int] = field(default_factory=dict)
    """Split -> number of photos."""
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split -> class -> number of photos."""
    formats: dict[str, int] = field(default_factory=dict)
    """Image format -> number of photos."""
    converted: dict[str, int] = field(default_factory=dict)
    """Image format -> number of photos that were converted to PNG."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason -> number of files."""
    rejected_files: list[RejectedFile] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of files."""
    notes: list[str] = field(default_factory=list)
    """One sentence for each thing that the user should know."""
    pixel_classes: dict[str, dict[str, PixelClass]] | None = field(default=None, metadata=OPTIONAL)
    """Of masks: split -> class -> what there is of it, in the order of the ids."""
    ignored_classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    """Of masks: the classes whose pixels are not counted, by `task.ignore`; None: there are none."""
    corrections: CorrectionsSummary | None = field(default=None, metadata=OPTIONAL)
    """None without `data.corrections`."""

    @property
    def class_counts(self) -> dict[str, int]:
        """Class -> accepted photos over all splits, sorted by number (largest first), then by name."""
        totals: dict[str, int] = {}
        for counts in self.classes.values():
            for label, count in counts.items():
                totals[label] = totals.get(label, 0) + count
        return dict(sorted(totals.items(), key=lambda total: (-total[1], total[0])))


@dataclass(frozen=True, kw_only=True)
class WindowSummary:
    """The spans of a run with `data.window`."""

    spans: list[str] = field(default_factory=list)
    """The spans trained or tested on, as a person writes them."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Span, as a person writes it -> why it was left out."""
    data: DataSummary | None = field(default=None, metadata=OPTIONAL)
    """The photos of all spans; None if the run was stopped before they were combined."""


@dataclass(frozen=True, kw_only=True)
class VectorsSummary:
    """The pass of the frozen backbone."""

    frozen_pass: str = ""
    """How the frozen backbone ran, in words."""
    cut: str = ""
    """Where it is cut, or why it is not."""
    computed: int = 0
    """Number of photos that passed through it."""
    reused: int = 0
    """Number of photos whose stored vectors were used."""
    dropped_as_damaged: int | None = field(default=None, metadata=OPTIONAL)
    """Number of stored vectors that were damaged and computed again."""


# ---- models


@dataclass(frozen=True, kw_only=True)
class WarmStartSummary:
    """The warm start of a training."""

    source: str
    """The model that training started from, in words."""
    step_zero: str = ""
    """Result of the comparison with the source before training, in words."""
    matched: int = 0
    """Number of variables copied from the source."""
    skipped: list[str] = field(default_factory=list)
    """Variables that the pattern does not match."""
    missing: list[str] = field(default_factory=list)
    """Variables that the source does not have."""
    unused: int = 0
    """Number of the source's variables that were not used."""
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
    """The training of a model."""

    epochs: int
    """Number of epochs."""
    best_epoch: int
    resumed_from: int = 0
    """Number of epochs done before an interruption."""
    learning_rate: float | None = None
    """The peak learning rate."""
    trainable_variables: int = 0
    """Number of variables."""
    trainable_parameters: int | None = None
    """Number of parameters."""
    strategy: str | None = None
    strategy_reason: str | None = None
    trained_on: str | None = None
    devices: str | None = None
    calibration: CalibrationSummary | None = None
    warm_start: WarmStartSummary | None = None

    @classmethod
    def of_history(cls, history: Mapping[str, Any]) -> TrainingSummary:
        """Reads the contents of `training.json`, without the learning curves.

        Raises:
          ValueError: the history is not valid.
        """
        numbers = {key: len(history[key]) for key in ("epochs", "trainable_variables")}
        warm_start = history.get("warm_start")
        if warm_start is not None:
            # The matched and unused variables are many; the names of the others one may ask for.
            warm_start = {**warm_start, **{key: len(warm_start[key]) for key in ("matched", "unused")}}
        return from_json(cls, {**history, **numbers, "warm_start": warm_start})


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """The metrics of one class; None if undefined."""

    examples: int
    """Of masks: photos that have the class."""
    precision: Interval | None = None
    recall: Interval | None = None
    f1: Interval | None = None
    iou: Interval | None = field(default=None, metadata=OPTIONAL)
    """Of masks: intersection over union. The other shares are of the class's pixels then, and F1 is Dice."""


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """How often a model abstains."""

    below: float
    """The model gives no answer below this confidence."""
    abstained: float
    """Share of the photos, in [0, 1]."""
    accuracy_of_answered: Interval | None


@dataclass(frozen=True, kw_only=True)
class SliceMetrics:
    """The accuracy on one slice; of masks that of the pixels."""

    examples: int
    accuracy: Interval
    mean_iou: Interval | None = field(default=None, metadata=OPTIONAL)
    enough: bool
    """Whether there are enough photos to draw conclusions."""

    @property
    def score(self) -> Interval:
        """What models are compared by: mean IoU of masks, else accuracy."""
        return self.mean_iou or self.accuracy


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """A model on the test split, see `components.evaluator.metrics.evaluate`.

    A model of masks has a mean IoU; accuracy, loss and calibration error are then those of a pixel, and every photo
    weighs the same, see `components.evaluator.mask_evaluation.evaluate`.
    """

    split: str = "test"
    examples: int | None = None
    mean_iou: Interval | None = field(default=None, metadata=OPTIONAL)
    """Over the classes of `per_class`, from all photos together, at the size that the model works at."""
    own_size_mean_iou: Interval | None = field(default=None, metadata=OPTIONAL)
    """The same of the masks as they are served: at the photos' own size, the longer side at most 1,024 pixels."""
    photo_mean_iou: Interval | None = field(default=None, metadata=OPTIONAL)
    """Mean over the photos of each one's own mean IoU."""
    accuracy: Interval
    loss: Interval | None = None
    calibration_error: Interval | None = None
    top_3_accuracy: Interval | None = field(default=None, metadata=OPTIONAL)
    auc: Interval | None = field(default=None, metadata=OPTIONAL)
    per_class: dict[str, ClassMetrics] = field(default_factory=dict)
    confusion_matrix: list[list[int]] = field(default_factory=list)
    """Photos, of masks pixels, by true class (row) and top answer (column), in the order of `per_class`."""
    abstention: Abstention | None = field(default=None, metadata=OPTIONAL)
    slices: dict[str, dict[str, SliceMetrics]] = field(default_factory=dict)
    """Feature -> value -> metrics."""
    training: TrainingSummary | None = field(default=None, metadata=OPTIONAL)

    @property
    def score(self) -> Interval:
        """What models are compared by: mean IoU of masks, else accuracy."""
        return self.mean_iou or self.accuracy


@dataclass(frozen=True, kw_only=True)
class FurtherSummary:
    """The models on the further data sets."""

    models: dict[str, ModelSummary]
    data: DataSummary | None = field(default=None, metadata=OPTIONAL)
    left_out_as_learnt_from: int | None = field(default=None, metadata=OPTIONAL)
    """Number of photos left out because a model was trained on them."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """ModelSelector's result on the eval split: the gain from fine-tuning in accuracy or mean IoU, with its interval.

    `identical` and `loss` are those of `SelectionVerdict`.
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
    """The model in production."""

    before: str | None = None
    """The version before the run."""
    after: str | None = None
    """The version after the run."""
    folder: str = ""
    """Folder of the versions."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that a run did."""

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
    """Name -> metrics on the test split."""
    further: FurtherSummary | None = None
    winner: str | None = None
    verdict: Choice | None = None
    release: ReleaseVerdict | None = None
    servable: ServableVerdict | None = None
    production: ProductionSummary
    versions: dict[str, str] = field(default_factory=dict)
    """Package -> version."""
    data_fingerprint: str | None = None
    """Equal for equal photos, labels and splits."""
    lineage: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """Node -> output -> ids of its artifacts in ML Metadata."""
    next_steps: list[NextStep] = field(default_factory=list)
    """The most promising first."""
    duration_seconds: float = 0.0

    @property
    def name(self) -> str:
        """Name of the configuration; empty if it could not be read."""
        return str((self.config or {}).get("name", ""))
