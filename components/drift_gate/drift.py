"""Judges whether the photos of a new span are like the earlier ones: the checks, the verdict and its sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from components.drift_gate import two_samples
from components.drift_gate.settings import DriftSettings, Thresholds
from components.drift_gate.two_samples import Distance
from schemas.errors import DataRefused
from schemas.verdicts import ClassDrift, DriftCheck, DriftVerdict, FarPhoto, Neighbour
from schemas.words import and_more

GO, NOTE, STOP = ACTIONS = ("go", "note", "stop")
# Of the earlier photos; they say how far a photo usually is from the nearest other one.
_REFERENCE_PHOTOS = 4000
_NEIGHBOURS = 3
_NAMED = 5


@dataclass(frozen=True)
class Photos:
    """The properties of photos that are compared, without augmented views. All have one entry per photo."""

    labels: Sequence[str]
    formats: Sequence[str]
    sides: np.ndarray
    """sqrt(width * height), pixels, > 0, float [photos]."""
    brightness: np.ndarray
    """Range [0, 1], NaN if it was not recorded, float [photos]."""
    vectors: np.ndarray
    """float32 [photos, width]."""
    file_names: Sequence[str]
    hashes: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class _PhotoComparison:
    """The photos of both sides, with values that several checks need."""

    new: Photos
    earlier: Photos
    new_units: np.ndarray
    """Vectors at length 1, float32 [photos, width]."""
    earlier_units: np.ndarray
    """Vectors at length 1, float32 [photos, width]."""
    nearest: np.ndarray
    """Index of the earlier photo nearest to each new one."""
    distances: np.ndarray
    """Distance of each new photo from `nearest`."""
    far: np.ndarray
    """Indices of the new photos that are far from every earlier one, farthest first."""
    far_distance: float
    """Photos beyond this distance are far."""
    false_alarms: float

    @property
    def regroupings(self) -> int:
        """Number of regroupings for which chance exceeds the observed distance as rarely as `false_alarms` demands."""
        return math.ceil(1 / self.false_alarms) - 1


@dataclass(frozen=True)
class _Finding:
    """The result of one check."""

    distance: Distance | None
    """None if nothing can be compared."""
    text: str
    new_classes: list[str] | None = None
    """As in `DriftCheck`."""
    vanished_classes: list[str] | None = None
    """As in `DriftCheck`."""
    classes: dict[str, Distance] = field(default_factory=dict)
    """Class -> its own distance."""


def judge(new: Photos, earlier: Photos, settings: DriftSettings, seed: int) -> DriftVerdict:
    """The verdict on the new photos.

    Args:
      earlier: those of the earlier spans, with vectors of the same backbone.
    """
    if not len(new) or not len(earlier):
        text = (
            f"there are no earlier photos to compare the {len(new)} new ones with"
            if len(new)
            else "there are no new photos"
        )
        return DriftVerdict(text=text, action=GO, new_photos=len(new), earlier_photos=len(earlier))
    compared = _compare(new, earlier, settings, seed)
    checks = {}
    for number, (name, check) in enumerate(_CHECKS.items()):
        if not (thresholds := settings.checks[name]).is_off:
            # Draws of its own for each check, so that none changes when another one is switched off.
            found = check(compared, np.random.default_rng([seed, number]))
            checks[name] = _result(name, found, thresholds)
    shown = compared.far[: settings.listed_photos]
    verdict = DriftVerdict(
        text="",
        action=max((each.action for each in checks.values()), key=ACTIONS.index, default=GO),
        checks=checks,
        far_photos=[_far_photo(compared, int(place)) for place in shown],
        far_photos_found=len(compared.far),
        far_distance=compared.far_distance if math.isfinite(compared.far_distance) else None,
        new_photos=len(new),
        earlier_photos=len(earlier),
    )
    return replace(verdict, text=_sentence(verdict))


def stop_if_told(verdict: DriftVerdict) -> None:
    """Ends the run if the verdict is `stop`.

    Raises:
      DataRefused: the verdict is `stop`. The message says everything, since the verdict itself may be deleted.
    """
    if verdict.action == STOP:
        raise DataRefused(_stop_sentence(verdict))


def _stop_sentence(verdict: DriftVerdict) -> str:
    keys = [f"drift.{name}.stop=null" for name, each in verdict.checks.items() if each.action == STOP]
    farthest = [
        f"; the farthest photo is {each.file_name}, {each.distance:.2f} from {each.neighbours[0].file_name}"
        for each in verdict.far_photos[:1]
    ]
    return (
        f"the drift gate stopped the new span: {verdict.text}{''.join(farthest)}; correct or remove the span, or let "
        f"it pass with {' and '.join(keys)}"
    )


def _compare(new: Photos, earlier: Photos, settings: DriftSettings, seed: int) -> _PhotoComparison:
    new_units, earlier_units = two_samples.unit(new.vectors), two_samples.unit(earlier.vectors)
    distances, nearest = two_samples.nearest(new_units, earlier_units)
    far, limit = np.empty(0, np.int64), math.inf
    if len(earlier) > 1:
        rng = np.random.default_rng(seed)
        own = np.sort(rng.permutation(len(earlier))[:_REFERENCE_PHOTOS])
        usual, _ = two_samples.nearest(earlier_units[own], earlier_units, own)
        limit = float(np.quantile(usual, settings.far_quantile))
        far = np.argsort(-distances, kind="stable")[: np.count_nonzero(distances > limit)]
    return _PhotoComparison(
        new, earlier, new_units, earlier_units, nearest, distances, far, limit, settings.false_alarms
    )


def _label_distribution(compared: _PhotoComparison, rng: np.random.Generator) -> _Finding:
    new, earlier = compared.new, compared.earlier
    distance, counts = two_samples.share_distance(new.labels, earlier.labels, compared.regroupings, rng)
    unknown = [label for label, (_, before) in counts.items() if not before]
    # Those of which some photo had to be among the new ones, by all but the accepted chance.
    vanished = [
        label
        for label, (now, before) in counts.items()
        if not now and (1 - before / len(earlier)) ** len(new) < compared.false_alarms
    ]
    text = f"class shares: {_changed_most(counts, len(new), len(earlier))}"
    text += f", never seen before: {_named(unknown)}" if unknown else ""
    text += f", no longer present: {_named(vanished)}" if vanished else ""
    return _Finding(distance, text, unknown, vanished)


def _image_size(compared: _PhotoComparison, rng: np.random.Generator) -> _Finding:
    new, earlier = compared.new.sides, compared.earlier.sides
    # In octaves: 1 is twice or half the side, wherever one starts from.
    distance = two_samples.wasserstein_distance(np.log2(new), np.log2(earlier), compared.regroupings, rng)
    return _Finding(distance, f"median side: {np.median(new):.0f} pixels ({np.median(earlier):.0f} before)")


def _image_format(compared: _PhotoComparison, rng: np.random.Generator) -> _Finding:
    new, earlier = compared.new.formats, compared.earlier.formats
    distance, counts = two_samples.share_distance(new, earlier, compared.regroupings, rng)
    return _Finding(distance, f"image formats: {_changed_most(counts, len(new), len(earlier))}")


def _brightness(compared: _PhotoComparison, rng: np.random.Generator) -> _Finding:
    new, earlier = (side.brightness[np.isfinite(side.brightness)] for side in (compared.new, compared.earlier))
    if not (new.size and earlier.size):
        return _Finding(None, "the brightness was not recorded")
    distance = two_samples.wasserstein_distance(new, earlier, compared.regroupings, rng)
    return _Finding(distance, f"mean brightness: {new.mean():.2f} ({earlier.mean():.2f} before)")


def _feature_distance(compared: _PhotoComparison, rng: np.random.Generator) -> _Finding:
    new, earlier = compared.new_units, compared.earlier_units
    if len(new) < two_samples.FEWEST_PHOTOS or len(earlier) < 2:
        return _Finding(None, "there are too few photos")
    scale = two_samples.kernel_scale(new, earlier, rng)
    return _Finding(
        two_samples.feature_distance(new, earlier, scale, compared.regroupings, rng), "what the photos show"
    )


def _class_feature_distance(compared: _PhotoComparison, rng: np.random.Generator) -> _Finding:
    new, earlier = _by_class(compared.new, compared.new_units), _by_class(compared.earlier, compared.earlier_units)
    scale = two_samples.kernel_scale(compared.new_units, compared.earlier_units, rng)
    distance, classes = two_samples.class_feature_distances(new, earlier, scale, compared.regroupings, rng)
    if distance is None:
        return _Finding(None, "too few photos are of classes seen before")
    resembled = Counter(
        (label, compared.earlier.labels[place])
        for label, place in zip(compared.new.labels, compared.nearest, strict=True)
        if label in earlier
    )
    others = sorted(
        ((pair, count) for pair, count in resembled.items() if pair[0] != pair[1]),
        key=lambda pair_and_count: (-pair_and_count[1], pair_and_count[0]),
    )
    text = (
        f"what the photos of a class show: {sum(count for _, count in others)} of {sum(resembled.values())} look most "
        "like another class"
    )
    shown = ", ".join(f"{count} {label!r} like {other!r}" for (label, other), count in others[:_NAMED])
    return _Finding(distance, f"{text} ({shown})" if others else text, classes=classes)


_CHECKS: dict[str, Callable[[_PhotoComparison, np.random.Generator], _Finding]] = {
    "label_distribution": _label_distribution,
    "image_size": _image_size,
    "image_format": _image_format,
    "brightness": _brightness,
    "feature_distance": _feature_distance,
    "class_feature_distance": _class_feature_distance,
}


def _action(distance: Distance | None, thresholds: Thresholds) -> str:
    if distance is None:
        return GO
    return STOP if distance.exceeds(thresholds.stop) else NOTE if distance.exceeds(thresholds.note) else GO


def _result(check: str, found: _Finding, thresholds: Thresholds) -> DriftCheck:
    distance, text = found.distance, found.text
    action = _action(distance, thresholds)
    classes = {
        name: ClassDrift(distance=each.observed, null=each.null, action=_action(each, thresholds))
        for name, each in found.classes.items()
    }
    if classes:
        # The classes on their own count where they are stricter than all together.
        worst = max(classes, key=lambda name: (ACTIONS.index(classes[name].action), classes[name].distance))
        if ACTIONS.index(classes[worst].action) > ACTIONS.index(action):
            distance, action = found.classes[worst], classes[worst].action
            text += f", {worst!r} most of all"
    threshold = thresholds.stop if action == STOP or thresholds.note is None else thresholds.note
    if distance is not None:
        text += f" (distance {distance.observed:.2f}, by chance up to {distance.null:.2f}"
        text += f", drift.{check}.{action} is {threshold:g})" if action != GO else ")"
    return DriftCheck(
        distance=distance.observed if distance else None,
        threshold=threshold,
        null=distance.null if distance else None,
        action=action,
        drifted=action != GO,
        text=text,
        new_classes=found.new_classes,
        vanished_classes=found.vanished_classes,
        classes=classes or None,
    )


def _sentence(verdict: DriftVerdict) -> str:
    drifted = [each.text for each in verdict.checks.values() if each.drifted]
    new, earlier, far = verdict.new_photos, verdict.earlier_photos, verdict.far_photos_found
    text = f"the {new} new photos are like the {earlier} earlier ones"
    if drifted:
        text = f"the {new} new photos differ from the {earlier} earlier ones in " + "; in ".join(drifted)
    labels = verdict.checks.get("label_distribution")
    if labels and labels.new_classes and not labels.drifted:  # too few of them to change the shares
        text += f"; never seen before: {_named(labels.new_classes)}"
    return text + (f"; {far} of them {'is' if far == 1 else 'are'} far from everything seen before" if far else "")


def _far_photo(compared: _PhotoComparison, place: int) -> FarPhoto:
    distances = np.maximum(1 - compared.earlier_units @ compared.new_units[place], 0)
    neighbours = np.argsort(distances, kind="stable")[:_NEIGHBOURS]
    return FarPhoto(
        **_photo(compared.new, place),
        distance=float(compared.distances[place]),
        neighbours=[Neighbour(**_photo(compared.earlier, int(i)), distance=float(distances[i])) for i in neighbours],
    )


def _photo(photos: Photos, place: int) -> dict[str, str]:
    return {
        "file_name": photos.file_names[place],
        "label": photos.labels[place],
        "content_hash": photos.hashes[place],
    }


def _by_class(photos: Photos, units: np.ndarray) -> dict[str, np.ndarray]:
    labels = np.array(photos.labels)
    return {str(label): units[labels == label] for label in np.unique(labels)}


def _changed_most(counts: dict[str, tuple[int, int]], new: int, earlier: int) -> str:
    shares = {value: (now / new, before / earlier) for value, (now, before) in counts.items()}
    most = sorted(shares, key=lambda value: -abs(shares[value][0] - shares[value][1]))[:_NAMED]
    return ", ".join(f"{value!r} {shares[value][0]:.1%} ({shares[value][1]:.1%} before)" for value in most)


def _named(names: Sequence[str]) -> str:
    return and_more([repr(name) for name in names], _NAMED)
