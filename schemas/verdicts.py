"""What the gates of a run decide, as `verdict.json` and `summary.json` have it: the numbers, and a sentence.

Every number is of the photos that the gate looked at. What a verdict of an older version lacks has a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.json_records import OPTIONAL


@dataclass(frozen=True)
class Comparison:
    """A candidate against a baseline on the same examples.

    better, worse: examples only the candidate, only the baseline answers rightly. difference: of the accuracies.
    low, high: its paired bootstrap percentile interval. p_value: exact McNemar test, two-sided.
    """

    examples: int
    better: int
    worse: int
    difference: float
    low: float
    high: float
    p_value: float


# ---- DriftGate


@dataclass(frozen=True, kw_only=True)
class ClassDrift:
    """One class on its own. distance, null: see `DriftCheck`. action: `go`, `note` or `stop`."""

    distance: float
    null: float
    action: str


@dataclass(frozen=True, kw_only=True)
class DriftCheck:
    """One comparison of the new photos with the earlier ones.

    distance: None where nothing can be compared. null: how large it is by chance. threshold: the one exceeded, else
    the lowest. action: `go`, `note` or `stop`; drifted: it is not `go`. text: what was found. new_classes,
    vanished_classes: of `label_distribution`. classes: of a check that looks at each class.
    """

    action: str
    text: str
    distance: float | None = None
    threshold: float | None = None
    null: float | None = None
    drifted: bool = False
    new_classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    vanished_classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    classes: dict[str, ClassDrift] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A photo near another one. distance: of their feature vectors, range [0, 2]."""

    file_name: str
    label: str
    content_hash: str
    distance: float


@dataclass(frozen=True, kw_only=True)
class FarPhoto(Neighbour):
    """A new photo that is far from every earlier one. distance: from the nearest. neighbours: nearest first."""

    neighbours: list[Neighbour] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class DriftVerdict:
    """Whether the photos of a new span are of the kind of the earlier ones.

    action: `go`, `note` or `stop`, the strictest of all checks. checks: those that are not switched off, by name.
    far_photos: the farthest first, no more than `drift.listed_photos` of `far_photos_found`. far_distance: from where
    on a photo is far; None: none is. new_photos, earlier_photos: how many were compared.
    """

    text: str
    action: str
    checks: dict[str, DriftCheck] = field(default_factory=dict)
    far_photos: list[FarPhoto] = field(default_factory=list)
    far_photos_found: int = 0
    far_distance: float | None = None
    new_photos: int = 0
    earlier_photos: int = 0


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
    """The ensemble against the model that reigned before it. against: its name."""

    against: str


@dataclass(frozen=True, kw_only=True)
class SelectionVerdict(Comparison):
    """The winner of the eval split, and fine-tuned against feature extraction.

    photos_to_show: how many eval photos would show the gain that this many did not; None: no gain was found. identical:
    both give every photo the same probabilities. loss: fine-tuned against feature extraction, for when the accuracy
    does not tell them apart. decided_by: `accuracy` or `loss`, by which a dearer model won; None: none did.
    """

    winner: str
    text: str
    blessed_by_evaluator: bool = False
    split: str = "eval"
    photos_to_show: int | None = None
    identical: bool = False
    loss: LossComparison | None = None
    decided_by: str | None = None
    ensemble: EnsembleComparison | None = field(default=None, metadata=OPTIONAL)


# ---- ProductionPredictions and ReleaseGate


@dataclass(frozen=True, kw_only=True)
class ProductionStanding:
    """Whether the winner can be compared with the model in production.

    state: `none` (the first run), `same` (the winner is in production), `comparable`, `unreadable`, `other_signature`
    or `other_labels`. version: in production. labels: classes of the model in production, in the order of their
    indices, where it is comparable.
    """

    state: str
    version: int | None = None
    text: str
    labels: list[str] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class LookAlikes:
    """photos: test photos that look like training photos; others: those that do not, and the winner's accuracy on
    them, in [0, 1], None where there are none.
    """

    photos: int
    others: int
    accuracy_of_others: float | None


@dataclass(frozen=True, kw_only=True)
class ConstantComparison(Comparison):
    """The winner against always answering `label`, the commonest class, which is right for the share `accuracy`."""

    label: str
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class SliceComparison(Comparison):
    """The winner against production on the photos with `value` of `feature`. lost: it is shown to be worse there."""

    feature: str
    value: str
    lost: bool


@dataclass(frozen=True, kw_only=True)
class ProductionComparison:
    """The winner against the model in production. state, version: see `ProductionStanding`. slices: the guarded ones.
    The rest is as in `Comparison`. What is not compared has neither.
    """

    version: int | None
    state: str
    text: str
    slices: list[SliceComparison] | None = field(default=None, metadata=OPTIONAL)
    examples: int | None = field(default=None, metadata=OPTIONAL)
    better: int | None = field(default=None, metadata=OPTIONAL)
    worse: int | None = field(default=None, metadata=OPTIONAL)
    difference: float | None = field(default=None, metadata=OPTIONAL)
    low: float | None = field(default=None, metadata=OPTIONAL)
    high: float | None = field(default=None, metadata=OPTIONAL)
    p_value: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class FurtherAccuracy:
    """On one of the further data sets; in [0, 1]."""

    examples: int
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class ReleaseVerdict:
    """Whether the winner is released, measured on the test split.

    refusals: what speaks against it, a sentence each. forced: the reason given for a forced push. accuracy: of the
    winner, in [0, 1]. undecided: a sentence, where the test photos are too few to tell the accuracy from its floor.
    further: data set -> what the winner reaches on it.
    """

    text: str
    released: bool
    refusals: list[str] = field(default_factory=list)
    forced: str | None = None
    accuracy: float | None = None
    split: str = "test"
    undecided: str | None = None
    look_alikes: LookAlikes | None = None
    constant: ConstantComparison | None = None
    production: ProductionComparison | None = None
    further: dict[str, FurtherAccuracy] | None = None


# ---- ServableCheck


@dataclass(frozen=True, kw_only=True)
class ExportFindings:
    """An export against its model. largest_difference: of a probability; infinite where there are more or fewer, NaN
    where one is. megabytes: millions of bytes. latency_milliseconds: median, one image a call.
    """

    largest_difference: float
    megabytes: float
    latency_milliseconds: float


@dataclass(frozen=True, kw_only=True)
class ServableVerdict:
    """What a fresh process found of the model to serve.

    golden_photos: how many were asked; kinds: of the photos made besides. largest_difference: of a probability from the
    expected one; largest_disagreement: between the signatures. latency_milliseconds, batch_latency_milliseconds:
    median, 1 and 32 photos a call. megabytes: millions of bytes, of the folder. measured: how many fresh processes were
    asked. warm_up_requests: how many were replayed. exports: by format.
    """

    servable: bool
    text: str
    golden_photos: int | None = None
    kinds: list[str] = field(default_factory=list)
    largest_difference: float | None = None
    largest_disagreement: float | None = None
    load_seconds: float | None = None
    latency_milliseconds: float | None = None
    batch_latency_milliseconds: float | None = None
    megabytes: float | None = None
    measured: int | None = None
    warm_up_requests: int | None = None
    exports: dict[str, ExportFindings] = field(default_factory=dict)
