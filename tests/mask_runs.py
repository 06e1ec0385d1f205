"""A run of masks as `summary.json` and the findings tell of it, made by hand: for the tests of the pages."""

from __future__ import annotations

import random
from typing import Any

from components.overlays.palette import colour_name, hex_colour
from tests.report_runs import drawn, measured, whole_run

TRIMAP = ["pet", "background", "border"]


def mask_run(
    labels: list[str], name: str = "photo.jpg", breed: str = "pug", seed: int = 3
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A summary and findings in which nothing is missing.

    Args:
      labels: the classes of the pixels, as hostile as one likes.
      name: what the name of each photo begins with.
      breed: label of the photos; empty: they have none.
      seed: of the drawings and numbers.
    """
    rng = random.Random(seed)
    summary, findings = whole_run([breed, "beagle"], name, seed)
    models = ["feature_extraction", "fine_tuned"]

    def metrics(mean_iou: float) -> dict[str, Any]:
        return {
            "split": "test",
            "examples": 54,
            "mean_iou": measured(mean_iou),
            "photo_mean_iou": measured(mean_iou - 0.01),
            "accuracy": measured(mean_iou + 0.15),
            "loss": measured(0.31),
            "calibration_error": measured(0.02),
            "per_class": {
                label: {"examples": rng.randrange(20, 55), "iou": measured(rng.uniform(0.3, 0.9)) if i else None}
                for i, label in enumerate(reversed(labels))
            },
            "confusion_matrix": [
                [rng.randrange(90_000, 200_000) if i == j else rng.randrange(9_000) for j in range(len(labels))]
                for i in range(len(labels))
            ],
            "slices": {
                "species": {
                    species: {
                        "examples": 27,
                        "accuracy": measured(0.9),
                        "mean_iou": measured(rng.uniform(0.6, 0.8)),
                        "enough": True,
                    }
                    for species in ("cat", "dog")
                }
            },
        }

    summary["models"] = {"feature_extraction": metrics(0.722), "fine_tuned": metrics(0.734)}
    summary["winner"] = "fine_tuned"
    text = "fine-tuned against feature extraction: mean IoU of three classes +1.2 points on 54 photos"
    summary["verdict"] = {"text": text, "difference": 0.012, "interval": [0.007, 0.017], "p_value": 1e-4}
    summary["data"]["pixel_classes"] = {
        split: {label: {"photos": 30, "pixels": rng.randrange(1, 10**6)} for label in labels}
        for split in ("train", "eval", "test")
    }
    summary["config"]["image"] = {"size": 160}
    for history in findings["training"].values():
        for epoch in [*history["epochs"], *history["smoothed"], history["before"]]:
            for split in ("train", "eval"):
                if f"{split}_accuracy" in epoch:
                    epoch[f"{split}_mean_iou"] = epoch[f"{split}_accuracy"] - 0.2
    findings["data"]["suspected_labels"] = findings["comparison"] = findings["gallery"] = None

    def entry() -> dict[str, Any]:
        photo = {
            "name": f"{name} {rng.randrange(10000)}",
            "label": breed,
            "split": "test",
            "thumbnail": rng.choice([drawn(rng.randrange(99)), None]),
        }
        titles = ["truth", "feature extraction", "fine-tuned", "mistakes of fine-tuned"]
        return {
            "photo": photo,
            "said": "70.1 % before fine-tuning, 81.0 % after",
            "pictures": [{"title": title, "uri": drawn(rng.randrange(99))} for title in titles],
        }

    def answered(one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "pictures": [drawn for drawn in one["pictures"] if drawn["title"] in ("truth", "fine-tuned")]}

    findings["masks"] = {
        "labels": labels,
        "legend": [(label, hex_colour(i, labels), colour_name(i, labels)) for i, label in enumerate(labels)],
        "models": models,
        "production": metrics(0.71),
        "conventions": {
            convention: dict.fromkeys([*models, "production"], value)
            for convention, value in (("border counted as pet", 0.91), ("border not counted", 0.88))
        }
        if labels == TRIMAP
        else {},
        "histogram": {
            "edges": [i / 20 for i in range(21)],
            "counts": {model: [rng.randrange(9) for _ in range(20)] for model in models},
        },
        "shown": {part: [entry() for _ in range(2)] for part in ("won", "lost", "worst", "suspected")},
        "worst_of": "fine_tuned",
        "suspects": 11,
        "gallery": {
            "model": "fine_tuned",
            "of": 54,
            "low": 14,
            "photos": [
                {**answered(entry()), "said": f"{50 + i}.0 %", "classes": labels[: 1 + i % len(labels)], "low": i < 2}
                for i in range(6)
            ],
        },
    }
    return summary, findings
