"""The verdicts of a run's gates in `verdict.json` and `summary.json`: the numbers, and a sentence.

Every number refers to the photos that the gate looked at. Fields that verdicts from older versions lack have defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.json_records import OPTIONAL


@dataclass(frozen=True)
class Comparison:
    """A candidate against a baseline on the same examples: by accuracy, of masks by mean IoU."""

    examples: int
    better: int
    """Examples that only the candidate gets right; of masks, those whose own mean IoU is larger with the candidate."""
    worse: int
    """Examples that only the baseline gets right; of masks, those whose own mean IoU is larger with the baseline."""
    difference: float
    """Accuracy, or mean IoU, of the candidate minus that of the baseline."""
    low: float
    """Lower end of the interval of `difference`: paired bootstrap percentiles, of masks the jackknife's t."""
    high: float
    """Upper end of that interval."""
    p_value: float
    """Two-sided: exact McNemar test, of masks the jackknife's t."""


@dataclass(frozen=True, kw_only=True)
class ClassComparison(Comparison):
    """A candidate against a baseline by the IoU of one class of the pixels."""

    label: str
    lost: bool
    """Whether the candidate is shown to lose more of this class than is tolerated."""


# ---- DriftGate


@dataclass(frozen=True, kw_only=True)
class ClassDrift:
    """The drift of one class; the fields are those of `DriftCheck`."""

    distance: float
    null: float
    action: str


@dataclass(frozen=True, kw_only=True)
class DriftCheck:
    """One comparison of the new photos with the earlier ones."""

    action: str
    """`go`, `note` or `stop`."""
    text: str
    """The result in words."""
    distance: float | None = None
    """None if nothing can be compared."""
    threshold: float | None = None
    """The threshold that was exceeded, otherwise the lowest."""
    null: float | None = None
    """The largest distance by chance."""
    drifted: bool = False
    """Whether the action is not `go`."""
    new_classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    """Only in `label_distribution`."""
    vanished_classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    """Only in `label_distribution`."""
    classes: dict[str, ClassDrift] | None = field(default=None, metadata=OPTIONAL)
    """Class -> its drift, in checks that look at each class."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A photo near another one."""

    file_name: str
    label: str
    content_hash: str
    distance: float
    """Cosine distance of the feature vectors, range [0, 2]."""


@dataclass(frozen=True, kw_only=True)
class FarPhoto(Neighbour):
    """A new photo that is far from every earlier one; its distance is that from the nearest."""

    neighbours: list[Neighbour] = field(default_factory=list)
    """Nearest first."""


@dataclass(frozen=True, kw_only=True)
class DriftVerdict:
    """Whether the photos of a new span are like the earlier ones."""

    text: str
    action: str
    """`go`, `note` or `stop`: the strictest of all checks."""
    checks: dict[str, DriftCheck] = field(default_factory=dict)
    """Name -> result of each check that is on."""
    far_photos: list[FarPhoto] = field(default_factory=list)
    """At most `drift.listed_photos` of `far_photos_found`, farthest first."""
    far_photos_found: int = 0
    far_distance: float | None = None
    """Photos beyond this distance are far; None if it was not measured."""
    new_photos: int = 0
    """Number of new photos compared."""
    earlier_photos: int = 0
    """Number of earlier photos compared."""


# ---- ModelSelector


@dataclass(frozen=True, kw_only=True)
class LossComparison:
    """A candidate against a baseline on the same examples, by natural-log loss.

    difference: of the mean losses, in nats; below 0 the candidate is better. low, high: its paired t interval at the
    level `confidence`, see `components.model_selector.paired_comparison.compare_losses`.
    """

    difference: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class EnsembleComparison(Comparison):
    """The ensemble against the best model before it."""

    against: str
    """Name of that model."""


@dataclass(frozen=True, kw_only=True)
class SelectionVerdict(Comparison):
    """The winner on the eval split, and the comparison of fine-tuned with feature extraction."""

    winner: str
    text: str
    blessed_by_evaluator: bool = False
    split: str = "eval"
    photos_to_show: int | None = None
    """Number of eval photos that would be needed to prove the gain; None without a gain."""
    identical: bool = False
    """Whether both models give every photo the same probabilities."""
    loss: LossComparison | None = None
    """Fine-tuned against feature extraction, for when accuracy does not tell them apart."""
    decided_by: str | None = None
    """`accuracy`, `mean_iou` or `loss`, by which the more expensive model won; None if it did not."""
    ensemble: EnsembleComparison | None = field(default=None, metadata=OPTIONAL)
    classes: list[ClassComparison] | None = field(default=None, metadata=OPTIONAL)
    """Of masks: fine-tuned against feature extraction by each guarded class."""


# ---- ProductionPredictions and ReleaseGate


@dataclass(frozen=True, kw_only=True)
class ProductionStanding:
    """Whether the winner can be compared with the model in production."""

    state: str
    """`none` (nothing is in production), `same` (the winner is in production), `comparable`, `unreadable`,
    `other_signature` or `other_labels`."""
    version: int | None = None
    """The version in production."""
    text: str
    labels: list[str] | None = field(default=None, metadata=OPTIONAL)
    """Classes of the model in production in the order of their indices, if it is comparable."""


@dataclass(frozen=True, kw_only=True)
class LookAlikes:
    """Test photos that look like training photos."""

    photos: int
    """Number of such photos."""
    others: int
    """Number of the other test photos."""
    accuracy_of_others: float | None
    """Accuracy of the winner on the others, of masks its mean IoU, in [0, 1]; None without others."""


@dataclass(frozen=True, kw_only=True)
class ConstantComparison(Comparison):
    """The winner against a model that always answers `label`, the most common class, with its `accuracy`.

    Of masks: that answers it for every pixel, with its mean IoU.
    """

    label: str
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class SliceComparison(Comparison):
    """The winner against production on the photos with this value of the feature."""

    feature: str
    value: str
    lost: bool
    """Whether the winner is proven worse there."""


@dataclass(frozen=True, kw_only=True)
class ProductionComparison:
    """The winner against the model in production.

    `state` and `version` are as in `ProductionStanding`, and the numbers as in `Comparison`, or None if the two models
    were not compared. `slices` are the guarded slices.
    """

    version: int | None
    state: str
    text: str
    slices: list[SliceComparison] | None = field(default=None, metadata=OPTIONAL)
    classes: list[ClassComparison] | None = field(default=None, metadata=OPTIONAL)
    """Of masks: the guarded classes."""
    examples: int | None = field(default=None, metadata=OPTIONAL)
    better: int | None = field(default=None, metadata=OPTIONAL)
    worse: int | None = field(default=None, metadata=OPTIONAL)
    difference: float | None = field(default=None, metadata=OPTIONAL)
    low: float | None = field(default=None, metadata=OPTIONAL)
    high: float | None = field(default=None, metadata=OPTIONAL)
    p_value: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class FurtherAccuracy:
    """The accuracy on one of the further data sets."""

    examples: int
    accuracy: float
    """In [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class ReleaseVerdict:
    """Whether the winner is released, judged on the test split."""

    text: str
    released: bool
    refusals: list[str] = field(default_factory=list)
    """One sentence for each reason against it."""
    forced: str | None = None
    """The reason given for a forced push."""
    accuracy: float | None = None
    """Accuracy of the winner, of masks that of its pixels, in [0, 1]."""
    mean_iou: float | None = field(default=None, metadata=OPTIONAL)
    """Of masks: mean IoU of the winner, in [0, 1]."""
    split: str = "test"
    undecided: str | None = None
    """A sentence, if there are too few test photos to tell the accuracy from its floor."""
    look_alikes: LookAlikes | None = None
    constant: ConstantComparison | None = None
    production: ProductionComparison | None = None
    further: dict[str, FurtherAccuracy] | None = None
    """Data set -> accuracy of the winner."""


# ---- ServableCheck


@dataclass(frozen=True, kw_only=True)
class ExportFindings:
    """An export compared with its model."""

    largest_difference: float
    """Largest difference of a probability; infinite if their number differs, NaN if one is NaN."""
    megabytes: float
    """Millions of bytes."""
    latency_milliseconds: float
    """Median, one image per call."""


@dataclass(frozen=True, kw_only=True)
class ServableVerdict:
    """The results of loading and querying the model in a fresh process."""

    servable: bool
    text: str
    golden_photos: int | None = None
    """Number of golden photos."""
    kinds: list[str] = field(default_factory=list)
    """Kinds of photos made in addition."""
    largest_difference: float | None = None
    """Largest difference of a probability from the expected one."""
    largest_disagreement: float | None = None
    """Largest difference of a probability between the signatures."""
    load_seconds: float | None = None
    latency_milliseconds: float | None = None
    """Median, one photo per call."""
    batch_latency_milliseconds: float | None = None
    """Median, 32 photos per call."""
    megabytes: float | None = None
    """Size of the folder in millions of bytes."""
    measured: int | None = None
    """Number of fresh processes used."""
    warm_up_requests: int | None = None
    """Number of warm-up requests replayed."""
    exports: dict[str, ExportFindings] = field(default_factory=dict)
    """Format -> findings."""
