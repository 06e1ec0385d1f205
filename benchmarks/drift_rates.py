"""How often DriftGate stops a night, wrongly and rightly: `python -m benchmarks.drift_rates --root ROOT`.

Nights are drawn, without any photo twice, from the feature vectors that a run on ROOT left, and judged by the default
thresholds against earlier photos drawn from the same: as they are, with the labels of all photos moved on by one class,
of one class only, and, with --other, with the photos of another root under this one's labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
from tfx.types import standard_artifacts

from components.drift_gate.component import read_photos
from components.drift_gate.drift import Photos, judge
from components.drift_gate.settings import DriftSettings
from pipeline.config import DriftConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    photos = photos_of(given.root)
    other = photos_of(given.other) if given.other else None
    classes = sorted(set(photos.labels))
    following = dict(zip(classes, [*classes[1:], classes[0]], strict=True))
    print(f"{len(photos)} photos of {len(classes)} classes, {given.draws} draws each, seed {given.seed}")
    print(f"{'night':<18}{'photos':>8}{'earlier':>9}{'go':>8}{'note':>8}{'stop':>8}")
    settings = DriftSettings.model_validate(DriftConfig().model_dump())
    rng = np.random.default_rng(given.seed)
    for new, earlier in ((20, 100), (20, 300), (100, 300)):
        actions: dict[str, Counter[str]] = {}
        for draw in range(given.draws):
            order = rng.permutation(len(photos))
            before, night = take(photos, order[:earlier]), take(photos, order[earlier : earlier + new])
            rest = order[earlier:]
            one_class = rest[[photos.labels[i] == classes[0] for i in rest]][:new]
            nights = {
                "as before": night,
                "wrong labels": dataclasses.replace(night, labels=[following[label] for label in night.labels]),
                "one class only": take(photos, one_class),
            }
            if other is not None:
                drawn = take(other, rng.permutation(len(other))[:new])
                nights["other pictures"] = dataclasses.replace(drawn, labels=night.labels[: len(drawn)])
            for name, each in nights.items():
                actions.setdefault(name, Counter())[judge(each, before, settings, seed=draw).action] += 1
        for name, counts in actions.items():
            shares = "".join(f"{counts[action] / given.draws:>8.1%}" for action in ("go", "note", "stop"))
            print(f"{name:<18}{new:>8}{earlier:>9}{shares}", flush=True)


def photos_of(root: Path) -> Photos:
    """The photos of the newest vectors in a root."""
    folder = max(
        (root / "artifacts" / "FeatureVectorGen" / "feature_vectors").iterdir(), key=lambda each: int(each.name)
    )
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    splits = sorted(each.name.removeprefix("Split-") for each in folder.glob("Split-*"))
    artifact.split_names = json.dumps(splits)
    return read_photos([artifact])


def take(photos: Photos, places: np.ndarray) -> Photos:
    """Some of the photos."""
    chosen = {}
    for each in dataclasses.fields(Photos):
        values = getattr(photos, each.name)
        chosen[each.name] = values[places] if isinstance(values, np.ndarray) else [values[i] for i in places]
    return Photos(**chosen)


if __name__ == "__main__":
    main()
