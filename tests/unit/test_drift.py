"""Drift: distances against their definitions, chance that is rarely taken for drift, and drift that is found."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from components.drift_gate import drift, two_samples
from components.drift_gate.drift import Photos, stop_if_told
from components.drift_gate.settings import DriftSettings
from pipeline.config import DriftConfig, load_config
from schemas.errors import BadInput
from schemas.json_records import from_json, to_json
from schemas.verdicts import DriftVerdict

SETTINGS = DriftSettings.model_validate(DriftConfig().model_dump())
CHECKS = [
    "label_distribution", "image_size", "image_format", "brightness", "feature_distance", "class_feature_distance"
]  # fmt: skip
WIDTH = 24


def judge(*given) -> dict:
    """The verdict as it is written."""
    return to_json(drift.judge(*given))


def changed(**changes) -> DriftSettings:
    """The settings with other values; `check__action` for those of a check."""
    settings = SETTINGS.model_dump()
    for key, value in changes.items():
        check, _, action = key.rpartition("__")
        (settings[check] if check else settings)[action] = value
    return DriftSettings.model_validate(settings)


def subjects(count: int) -> np.ndarray:
    """What the photos of so many classes show: float [count, WIDTH], far from each other."""
    return 10 * np.eye(WIDTH)[:count] + 2


def draw(rng, photos: int, labels=("cat", "dog"), shares=None, prefix="photo") -> Photos:
    """Photos of classes, each of a subject of its own, which every photo shows in another way."""
    places = rng.choice(len(labels), photos, p=shares)
    return Photos(
        labels=[labels[place] for place in places],
        formats=[("JPEG", "PNG")[i] for i in rng.binomial(1, 0.2, photos)],
        sides=2 ** rng.normal(8.7, 0.4, photos),
        brightness=np.clip(rng.normal(0.45, 0.1, photos), 0, 1),
        vectors=(subjects(len(labels))[places] + rng.normal(0, 1.5, (photos, WIDTH))).astype(np.float32),
        file_names=[f"{prefix}-{i}.jpg" for i in range(photos)],
        hashes=[f"{prefix}-{i}" for i in range(photos)],
    )


def with_others(rng, photos: Photos, count: int) -> Photos:
    """The first `count` photos show something that no class shows."""
    vectors = photos.vectors.copy()
    vectors[:count] = 10 * np.eye(WIDTH)[-1] + 2 + rng.normal(0, 1, (count, WIDTH))
    return dataclasses.replace(photos, vectors=vectors)


def swapped(photos: Photos) -> Photos:
    return dataclasses.replace(photos, labels=[{"cat": "dog", "dog": "cat"}[label] for label in photos.labels])


def drifted(verdict) -> set[str]:
    return {name for name, check in verdict["checks"].items() if check["drifted"]}


@pytest.fixture
def rng():
    return np.random.default_rng(17)


# The distances


def test_the_distance_of_shares_is_what_would_have_to_change(rng):
    distance, counts = two_samples.share_distance(["a"] * 6 + ["b"] * 4, ["a", "a", "c", "c"], 99, rng)
    assert distance.observed == pytest.approx(0.5)  # a 0.6 and 0.5, b 0.4 and 0, c 0 and 0.5
    assert counts == {"a": (6, 2), "b": (4, 0), "c": (0, 2)}
    same, _ = two_samples.share_distance(["a", "b"], ["a", "b"] * 3, 99, rng)
    assert same.observed == 0


@pytest.mark.parametrize("sizes", [(1, 1), (7, 30), (200, 50)])
def test_the_distance_of_numbers_is_scipys(rng, sizes):
    new, earlier = (np.round(rng.normal(shift, 1, size), 1) for shift, size in zip((0, 0.4), sizes, strict=True))
    found = two_samples.wasserstein_distance(new, earlier, 9, rng)
    assert found.observed == pytest.approx(stats.wasserstein_distance(new, earlier), abs=1e-12)


def test_many_numbers_are_regrouped_a_part_at_a_time(rng, monkeypatch):
    new, earlier = rng.normal(0, 1, 40), rng.normal(0, 1, 60)
    whole = two_samples.wasserstein_distance(new, earlier, 99, np.random.default_rng(1))
    monkeypatch.setattr(two_samples, "_REGROUPED_VALUES", 700)
    parts = two_samples.wasserstein_distance(new, earlier, 99, np.random.default_rng(1))
    assert (parts.observed, parts.null) == (pytest.approx(whole.observed), pytest.approx(whole.null))


def kernel(a, b, scale) -> float:
    return math.exp(-float(np.sum((a - b) ** 2)) / scale)


def mean_kernel(one, other, scale) -> float:
    """Over all pairs of different photos."""
    return float(np.mean([kernel(a, b, scale) for a in one for b in other if a is not b]))


def test_the_feature_distance_is_the_maximum_mean_discrepancy(rng):
    new, earlier = (list(two_samples.unit(rng.normal(m, 1, (n, 5)))) for m, n in ((0.7, 6), (0, 9)))
    scale = two_samples.kernel_scale(np.array(new), np.array(earlier), rng)
    pairs = [(a, b) for i, a in enumerate(new + earlier) for b in (new + earlier)[:i]]
    assert scale == pytest.approx(np.median([np.sum((a - b) ** 2) for a, b in pairs]), rel=1e-5)
    found = two_samples.feature_distance(np.array(new), np.array(earlier), scale, 9, rng)
    squared = mean_kernel(new, new, scale) + mean_kernel(earlier, earlier, scale) - 2 * mean_kernel(new, earlier, scale)
    assert found.observed == pytest.approx(math.sqrt(squared), rel=1e-4)


def test_the_feature_distance_within_classes_is_the_resemblance_that_is_lost(rng):
    new = {"a": rng.normal(1, 1, (6, 5)), "b": rng.normal(1, 1, (1, 5)), "new": rng.normal(0, 1, (3, 5))}
    earlier = {"a": rng.normal(-1, 1, (9, 5)), "b": rng.normal(-1, 1, (4, 5)), "rare": rng.normal(0, 1, (1, 5))}
    new, earlier = ({name: two_samples.unit(side[name]) for name in side} for side in (new, earlier))
    lost = {}
    for name in ("a", "b"):
        now, before = list(new[name]), list(earlier[name])
        lost[name] = 2 * (mean_kernel(before, before, 1.5) - mean_kernel(now, before, 1.5))
        assert lost[name] > 0
    together, classes = two_samples.class_feature_distances(new, earlier, 1.5, 9, rng)
    assert together.observed == pytest.approx(math.sqrt((6 * lost["a"] + lost["b"]) / 7), rel=1e-4)
    assert list(classes) == ["a"], "a class of one new photo is not judged on its own"
    assert classes["a"].observed == pytest.approx(math.sqrt(lost["a"]), rel=1e-4)
    for few in ({"a": new["a"][:4]}, {"new": earlier["a"], "rare": earlier["a"]}):
        assert two_samples.class_feature_distances(few, earlier, 1.5, 9, rng) == (None, {})


def test_the_nearest_photo_is_the_nearest(rng, monkeypatch):
    queries, earlier = (two_samples.unit(rng.normal(0, 1, (n, 6))) for n in (9, 13))
    cosines = 1 - queries @ earlier.T
    monkeypatch.setattr(two_samples, "_REGROUPED_VALUES", 5)  # three queries at once
    distances, places = two_samples.nearest(queries, earlier)
    np.testing.assert_allclose(distances, cosines.min(axis=1), atol=1e-6)
    np.testing.assert_array_equal(places, cosines.argmin(axis=1))
    own = np.array([2, 5, 6, 12])
    distances, places = two_samples.nearest(earlier[own], earlier, own)
    assert (places != own).all()
    assert distances.min() > 0.01


def test_more_photos_than_the_kernel_takes_are_drawn_from(rng, monkeypatch):
    monkeypatch.setattr(two_samples, "KERNEL_PHOTOS", 50)
    sides = [two_samples.unit(rng.normal(m, 1, (300, 5))) for m in (0.8, 0)]
    scale = two_samples.kernel_scale(*sides, rng)
    drawn = two_samples.feature_distance(*sides, scale, 99, rng)
    monkeypatch.setattr(two_samples, "KERNEL_PHOTOS", 1000)
    whole = two_samples.feature_distance(*sides, scale, 99, rng)
    assert drawn.observed == pytest.approx(whole.observed, rel=0.3)
    assert drawn.null > whole.null


# Chance


@pytest.mark.parametrize(("new", "earlier"), [(5, 40), (20, 100), (60, 60)])
def test_chance_is_exceeded_as_often_as_is_said(rng, new, earlier):
    """One time in 20 with 19 regroupings; of 300 sets 15, with a standard error of 3.8."""
    sets, exceeded = 300, dict.fromkeys(["shares", "numbers", "features", "classes", "one class"], 0)
    for _ in range(sets):
        a, b = draw(rng, new), draw(rng, earlier)
        units = [two_samples.unit(side.vectors) for side in (a, b)]
        by_class = [
            {label: side[np.array(photos.labels) == label] for label in set(photos.labels)}
            for photos, side in zip((a, b), units, strict=True)
        ]
        scale = two_samples.kernel_scale(*units, rng)
        together, single = two_samples.class_feature_distances(*by_class, scale, 19, rng)
        found = {
            "shares": [two_samples.share_distance(a.labels, b.labels, 19, rng)[0]],
            "numbers": [two_samples.wasserstein_distance(a.brightness, b.brightness, 19, rng)],
            "features": [two_samples.feature_distance(*units, scale, 19, rng)],
            "classes": [together],
            "one class": list(single.values()),
        }
        for name, distances in found.items():
            exceeded[name] += any(each.exceeds(0) for each in distances)
    assert max(exceeded.values()) <= 15 + 4 * 3.8
    # Shares have ties, which make them exceed chance less often.
    assert min(exceeded[name] for name in ("numbers", "features", "classes")) > 0


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.parametrize(("new", "earlier"), [(20, 100), (20, 2000), (100, 500), (500, 2000)])
def test_photos_of_the_same_kind_raise_no_alarm(rng, new, earlier):
    verdicts = [judge(draw(rng, new), draw(rng, earlier), SETTINGS, seed) for seed in range(5)]
    assert [verdict["action"] for verdict in verdicts] == ["go"] * 5
    assert [list(verdict["checks"]) for verdict in verdicts] == [CHECKS] * 5
    assert f"the {new} new photos are like the {earlier} earlier ones" in verdicts[0]["text"]


def test_a_small_night_exceeds_the_threshold_by_chance_and_raises_no_alarm(rng):
    """Of 20 photos some class is always missing: the threshold alone would speak every night."""
    breeds = [f"breed {i}" for i in range(20)]
    checks = [
        judge(draw(rng, 20, breeds), draw(rng, 400, breeds), SETTINGS, seed)["checks"]["label_distribution"]
        for seed in range(10)
    ]
    assert sum(check["distance"] > check["threshold"] for check in checks) >= 8
    assert [check["drifted"] for check in checks] == [False] * 10


def test_a_shift_that_is_sure_but_small_raises_no_alarm(rng):
    earlier, new = draw(rng, 1000), draw(rng, 1000)
    new = dataclasses.replace(new, brightness=new.brightness + 0.04)
    check = judge(new, earlier, SETTINGS, 1)["checks"]["brightness"]
    assert check["distance"] > check["null"]
    assert (check["threshold"], check["action"]) == (0.1, "go")


def test_the_same_seed_gives_the_same_verdict(rng):
    new, earlier = draw(rng, 30), draw(rng, 90)
    assert judge(new, earlier, SETTINGS, 3) == judge(new, earlier, SETTINGS, 3)
    nulls = [judge(new, earlier, SETTINGS, seed)["checks"]["brightness"]["null"] for seed in (3, 4)]
    assert nulls[0] != nulls[1]


# Drift that is found


@pytest.mark.parametrize(("new", "earlier"), [(20, 100), (100, 500)])
def test_wrong_labels_stop_the_run(rng, new, earlier):
    for seed in range(5):
        verdict = judge(swapped(draw(rng, new)), draw(rng, earlier), SETTINGS, seed)
        assert verdict["action"] == "stop"
        assert drifted(verdict) == {"class_feature_distance"}
        assert f"{new} of {new} look most like another class" in verdict["text"]
        assert "'dog' like 'cat'" in verdict["text"]


def test_wrong_labels_of_many_classes_are_found_in_few_photos(rng):
    """Most of the 20 classes have one new photo or none."""
    breeds = [f"breed {i}" for i in range(20)]
    for seed in range(5):
        new = draw(rng, 20, breeds)
        wrong = dataclasses.replace(new, labels=[*new.labels[1:], new.labels[0]])
        assert judge(wrong, draw(rng, 400, breeds), SETTINGS, seed)["action"] == "stop"


def test_wrong_labels_of_one_class_of_many_are_found(rng):
    breeds = [f"breed {i}" for i in range(20)]
    new, earlier = draw(rng, 400, breeds), draw(rng, 1000, breeds)
    wrong = dataclasses.replace(
        new, labels=["breed 3" if label == "breed 7" and i % 2 else label for i, label in enumerate(new.labels)]
    )
    check = judge(wrong, earlier, SETTINGS, 1)["checks"]["class_feature_distance"]
    assert check["drifted"]
    assert "'breed 3' most of all" in check["text"]
    assert {name for name, each in check["classes"].items() if each["action"] != "go"} == {"breed 3"}


@pytest.mark.parametrize(("new", "earlier"), [(20, 100), (100, 500)])
def test_other_pictures_stop_the_run(rng, new, earlier):
    for seed in range(5):
        verdict = judge(with_others(rng, draw(rng, new), new), draw(rng, earlier), SETTINGS, seed)
        assert verdict["action"] == "stop"
        assert drifted(verdict) == {"feature_distance", "class_feature_distance"}
        assert verdict["far_photos_found"] > 0.8 * new


def test_other_pictures_that_keep_to_their_new_class_are_found_too(rng):
    new = dataclasses.replace(with_others(rng, draw(rng, 40), 40), labels=["landscape"] * 40)
    verdict = judge(new, draw(rng, 200), SETTINGS, 1)
    assert drifted(verdict) == {"label_distribution", "feature_distance"}
    assert verdict["checks"]["class_feature_distance"]["distance"] is None
    assert verdict["checks"]["label_distribution"]["new_classes"] == ["landscape"]
    assert verdict["checks"]["label_distribution"]["vanished_classes"] == ["cat", "dog"]
    assert "never seen before: 'landscape', no longer present: 'cat', 'dog'" in verdict["text"]


def test_only_photos_of_classes_that_were_there_can_resemble_another_one(rng):
    photos = draw(rng, 40)
    verdict = judge(dataclasses.replace(photos, labels=["lynx"] * 10 + photos.labels[10:]), draw(rng, 200), SETTINGS, 1)
    assert "0 of 30 look most like another class" in verdict["checks"]["class_feature_distance"]["text"]


def test_one_odd_photo_stops_nothing(rng):
    for seed in range(5):
        verdict = judge(with_others(rng, draw(rng, 60), 1), draw(rng, 2000), SETTINGS, seed)
        assert verdict["action"] == "go"
        assert verdict["far_photos_found"] >= 1


@pytest.mark.parametrize("new", [20, 200])
def test_darker_photos_are_noted(rng, new):
    photos = draw(rng, new)
    darker = dataclasses.replace(photos, brightness=photos.brightness / 2)
    verdict = judge(darker, draw(rng, 500), SETTINGS, 1)
    assert (verdict["action"], drifted(verdict)) == ("note", {"brightness"})
    assert f"mean brightness: {darker.brightness.mean():.2f} (0.4" in verdict["text"]


@pytest.mark.parametrize("factor", [0.25, 3])
def test_another_size_is_noted_in_octaves(rng, factor):
    photos, earlier = draw(rng, 20), draw(rng, 500)
    verdict = judge(dataclasses.replace(photos, sides=photos.sides * factor), earlier, SETTINGS, 1)
    assert (verdict["action"], drifted(verdict)) == ("note", {"image_size"})
    assert verdict["checks"]["image_size"]["distance"] == pytest.approx(abs(math.log2(factor)), abs=0.3)


def test_another_size_that_is_nearly_the_same_is_none(rng):
    """A statistic of ranks would see nothing in common."""
    photos, earlier = draw(rng, 200), draw(rng, 200)
    new, old = (dataclasses.replace(side, sides=np.full(200, px)) for side, px in ((photos, 512.0), (earlier, 500.0)))
    check = judge(new, old, SETTINGS, 1)["checks"]["image_size"]
    assert check["distance"] == pytest.approx(math.log2(512 / 500))
    assert not check["drifted"]


def test_other_formats_are_noted(rng):
    verdict = judge(dataclasses.replace(draw(rng, 20), formats=["GIF"] * 20), draw(rng, 500), SETTINGS, 1)
    assert (verdict["action"], drifted(verdict)) == ("note", {"image_format"})
    assert "image formats: 'GIF' 100.0% (0.0% before), 'JPEG' 0.0%" in verdict["text"]


def test_one_class_alone_is_noted_and_its_photos_are_those_of_the_class(rng):
    verdict = judge(draw(rng, 40, shares=[1, 0]), draw(rng, 500), SETTINGS, 1)
    assert verdict["action"] == "note"
    assert "label_distribution" in drifted(verdict)
    assert "class_feature_distance" not in drifted(verdict)
    assert verdict["checks"]["label_distribution"]["vanished_classes"] == ["dog"]


def test_a_new_class_of_few_photos_is_named(rng):
    photos = draw(rng, 200)
    verdict = judge(dataclasses.replace(photos, labels=["Cat", *photos.labels[1:]]), draw(rng, 500), SETTINGS, 1)
    assert verdict["action"] == "go"
    assert "; never seen before: 'Cat'" in verdict["text"]


def test_a_class_that_is_missing_by_chance_has_not_vanished(rng):
    labels = ("cat", "dog", "lynx")
    earlier = draw(rng, 500, labels, shares=[0.5, 0.48, 0.02])
    for photos, vanished in ((20, []), (1000, ["lynx"])):
        verdict = judge(draw(rng, photos, labels, shares=[0.5, 0.5, 0]), earlier, SETTINGS, 1)
        assert verdict["checks"]["label_distribution"]["vanished_classes"] == vanished


# What is done about it


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({}, "note"),
        ({"brightness__stop": 0.2}, "stop"),
        ({"brightness__stop": 0.9}, "note"),
        ({"brightness__note": None, "brightness__stop": 0.2}, "stop"),
        ({"brightness__note": 0.9}, "go"),
        ({"brightness__note": None}, "go"),
    ],
    ids=str,
)
def test_thresholds_decide_what_is_done(rng, changes, action):
    photos = draw(rng, 50)
    new = dataclasses.replace(photos, brightness=photos.brightness / 2)
    verdict = judge(new, draw(rng, 300), changed(**changes), 1)
    assert verdict["action"] == action
    assert ("brightness" in verdict["checks"]) == ("brightness__note" not in changes or any(changes.values()))


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_that_is_switched_off_changes_no_other(rng, check):
    new, earlier = swapped(draw(rng, 30)), draw(rng, 90)
    every = judge(new, earlier, SETTINGS, 1)["checks"]
    rest = judge(new, earlier, changed(**{f"{check}__note": None, f"{check}__stop": None}), 1)["checks"]
    assert rest == {name: result for name, result in every.items() if name != check}


def test_without_any_check_far_photos_are_still_listed(rng):
    off = changed(**{f"{check}__{action}": None for check in CHECKS for action in ("note", "stop")})
    verdict = judge(with_others(rng, draw(rng, 20), 3), draw(rng, 300), off, 1)
    assert (verdict["action"], verdict["checks"]) == ("go", {})
    assert verdict["far_photos_found"] >= 3


def test_one_threshold_of_a_check_can_be_set_without_the_other():
    config = load_config("cats_vs_dogs", ["drift.feature_distance.stop=null"], ["/photos"])
    assert config.drift.feature_distance.model_dump() == {"note": SETTINGS.feature_distance.note, "stop": None}
    assert config.drift.label_distribution == DriftConfig().label_distribution


def test_a_note_that_would_come_after_the_stop_is_refused():
    with pytest.raises(BadInput, match=r"drift\.brightness .*note \(0\.1\) is larger than stop \(0\.05\)"):
        load_config("cats_vs_dogs", ["drift.brightness.stop=0.05"], ["/photos"])


def test_fewer_accepted_false_alarms_ask_for_more_of_a_distance(rng):
    new, earlier = draw(rng, 30), draw(rng, 300)
    nulls = [
        judge(new, earlier, changed(false_alarms=share), 1)["checks"]["brightness"]["null"] for share in (0.1, 0.001)
    ]
    assert nulls[0] < nulls[1]


def test_the_sentence_of_a_stop_says_everything(rng):
    verdict = judge(with_others(rng, swapped(draw(rng, 50)), 25), draw(rng, 300), SETTINGS, 1)
    with pytest.raises(BadInput) as stop:
        stop_if_told(from_json(DriftVerdict, verdict))
    said = str(stop.value)
    stopped = [name for name, check in verdict["checks"].items() if check["action"] == "stop"]
    assert "class_feature_distance" in stopped
    for name in stopped:
        check = verdict["checks"][name]
        assert f"(distance {check['distance']:.2f}, by chance up to {check['null']:.2f}, drift.{name}.stop is" in said
        assert f"drift.{name}.stop=null" in said
    farthest = verdict["far_photos"][0]
    assert f"the farthest photo is {farthest['file_name']}, {farthest['distance']:.2f} from photo-" in said
    assert "50 new photos differ from the 300 earlier ones" in said
    assert "correct or remove the span" in said
    assert "\n" not in said
    stop_if_told(from_json(DriftVerdict, verdict | {"action": "note"}))


# Far photos


def test_far_photos_are_listed_with_their_nearest_earlier_ones(rng):
    earlier = draw(rng, 400, prefix="old")
    verdict = judge(with_others(rng, draw(rng, 30, prefix="new"), 4), earlier, changed(listed_photos=3), 1)
    assert verdict["far_photos_found"] in (4, 5)  # one by chance
    listed = verdict["far_photos"]
    assert len(listed) == 3
    assert {photo["file_name"] for photo in listed} < {f"new-{i}.jpg" for i in range(4)}
    assert [photo["distance"] for photo in listed] == sorted((photo["distance"] for photo in listed), reverse=True)
    units = two_samples.unit(earlier.vectors)
    for photo in listed:
        assert photo["distance"] > verdict["far_distance"]
        nearest = photo["neighbours"]
        assert [n["distance"] for n in nearest] == sorted(n["distance"] for n in nearest)
        assert nearest[0]["distance"] == pytest.approx(photo["distance"], abs=1e-5)
        assert [earlier.labels[int(n["content_hash"].removeprefix("old-"))] for n in nearest] == [
            n["label"] for n in nearest
        ]
    assert len({n["file_name"] for n in listed[0]["neighbours"]}) == 3
    own = np.arange(400)
    usual, _ = two_samples.nearest(units, units, own)
    assert verdict["far_distance"] == pytest.approx(np.quantile(usual, 0.999))


def test_a_photo_that_was_there_before_is_not_far(rng):
    earlier = with_others(rng, draw(rng, 100), 1)
    again = dataclasses.replace(
        draw(rng, 2), vectors=np.concatenate([earlier.vectors[:1], draw(rng, 1).vectors]), labels=earlier.labels[:2]
    )
    names = [photo["file_name"] for photo in judge(again, earlier, SETTINGS, 1)["far_photos"]]
    assert "photo-0.jpg" not in names


def test_few_photos_are_far_by_chance(rng):
    found = [judge(draw(rng, 500), draw(rng, 2000), SETTINGS, seed)["far_photos_found"] for seed in range(4)]
    assert sum(found) <= 10  # two are expected


# Where there is little or nothing to compare


def none_of(photos: Photos) -> Photos:
    return Photos([], [], np.zeros(0), np.zeros(0), np.zeros((0, WIDTH), np.float32), [], [])


def test_without_earlier_photos_there_is_nothing_to_compare_with(rng):
    photos = draw(rng, 20)
    verdict = judge(photos, none_of(photos), SETTINGS, 1)
    assert (verdict["action"], verdict["checks"], verdict["far_photos"]) == ("go", {}, [])
    assert verdict["text"] == "there are no earlier photos to compare the 20 new ones with"
    assert (verdict["new_photos"], verdict["earlier_photos"]) == (20, 0)


def test_without_new_photos_there_is_nothing_to_compare(rng):
    photos = draw(rng, 20)
    verdict = judge(none_of(photos), photos, SETTINGS, 1)
    assert (verdict["action"], verdict["text"]) == ("go", "there are no new photos")


@pytest.mark.parametrize(("new", "earlier"), [(1, 1), (1, 2), (2, 1), (2, 2), (1, 500), (500, 1), (3, 4)])
def test_very_few_photos_raise_no_alarm(rng, new, earlier):
    photos = with_others(rng, draw(rng, new), new if new < 100 else 0)
    verdict = judge(photos, draw(rng, earlier), SETTINGS, 1)
    assert verdict["action"] == "go"
    assert list(verdict["checks"]) == CHECKS
    json.dumps(verdict, allow_nan=False)


def test_brightness_that_was_not_recorded_is_not_compared(rng):
    earlier = dataclasses.replace(draw(rng, 50), brightness=np.full(50, np.nan))
    check = judge(draw(rng, 50), earlier, SETTINGS, 1)["checks"]["brightness"]
    assert (check["distance"], check["null"], check["action"]) == (None, None, "go")
    assert check["text"] == "the brightness was not recorded"


def test_photos_without_any_variety_are_compared(rng):
    photos = draw(rng, 30)
    same = dataclasses.replace(photos, vectors=np.ones_like(photos.vectors), brightness=np.zeros(30))
    assert judge(same, same, SETTINGS, 1)["action"] == "go"
    black = dataclasses.replace(same, vectors=np.zeros_like(photos.vectors))
    json.dumps(judge(black, same, SETTINGS, 1), allow_nan=False)
