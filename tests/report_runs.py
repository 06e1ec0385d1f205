"""Runs as `summary.json` and the findings tell of them, made by hand: for the tests of the pages."""

from __future__ import annotations

import base64
import copy
import io
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from components.report.history import History
from schemas.json_records import from_json
from tests.end_to_end.commands import STEPS

# Step -> what it waits for, as the graph of `cats_vs_dogs` has it (`tests/component/test_components_page.py`).
UPSTREAM = {
    "CuratedSchema": [],
    "ImageExampleGen": [],
    "StatisticsGen": ["CuratedSchema", "ImageExampleGen"],
    "ExampleValidator": ["CuratedSchema", "StatisticsGen"],
    "DataGate": ["CuratedSchema", "ExampleValidator", "ImageExampleGen"],
    "Transform": ["DataGate", "ImageExampleGen"],
    "FeatureVectorGen": ["DataGate", "ImageExampleGen", "Transform"],
    "FeatureExtraction": ["DataGate", "FeatureVectorGen", "ImageExampleGen", "Transform"],
    "FineTuning": ["DataGate", "FeatureExtraction", "FeatureVectorGen", "ImageExampleGen", "Transform"],
    "Predictions": ["DataGate", "FeatureExtraction", "FeatureVectorGen", "FineTuning", "ImageExampleGen"],
    "Evaluator": ["FeatureExtraction", "FineTuning", "Predictions"],
    "ModelSelector": ["Evaluator", "FeatureExtraction", "FineTuning", "Predictions"],
    "ProductionPredictions": ["DataGate", "FeatureVectorGen", "ImageExampleGen", "ModelSelector"],
    "ServableCheck": ["ImageExampleGen", "ModelSelector", "Predictions"],
    "ReleaseGate": [
        "DataGate", "FeatureVectorGen", "ImageExampleGen", "ModelSelector", "Predictions", "ProductionPredictions",
    ],
    "Pusher": ["ModelSelector", "ReleaseGate", "ServableCheck"],
}  # fmt: skip
BREEDS = (Path(__file__).parents[1] / "schemas" / "oxford_iiit_pet.pbtxt").read_text(encoding="utf-8")
BREEDS = [line.split('"')[1] for line in BREEDS.split("string_domain")[1].splitlines() if 'value: "' in line][:37]

# Names as a folder can have them.
HOSTILE = [
    "</td></tr></table><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"quoted" onmouseover="alert(1)" and \'single\'',
    "</title><style>body { display: none }</style>",
    "&lt;b&gt; &amp; & &#60;",
    "{{ 7 * 7 }} {% raw %} {# no #}",
    "<!-- never closed",
    "]]> ?> <?php",
    "https://example.org/photo.jpg",
    "\u202egnp.exe\u202c \u200f\u05e9\u05dc\u05d5\u05dd",
    "\u202eturned and never turned back",
    "k\u00e4tzchen \U0001f431 \u732b",
    "$\\frac{1}{$ ^_^ $",
    "x" * 200,
]


def measured(value: float) -> dict[str, Any]:
    return {"value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.05)}


def model(accuracy: float) -> dict[str, Any]:
    return {
        "split": "test",
        "examples": 54,
        "accuracy": {"value": accuracy, "low": accuracy - 0.1, "high": 1.0},
        "loss": {"value": 0.157, "low": 0.1, "high": 0.2},
        "calibration_error": {"value": 0.07, "low": 0.01, "high": 0.09},
    }


PUSHED: dict[str, Any] = {
    "schema_version": 1,
    "run_id": "9199c317-8c67-42d0-85a4-1d8109ebe5f8",
    "config": {"name": "cats_vs_dogs"},
    "status": "pushed",
    "reason": "feature extraction is in production as version 1795395593",
    "nodes": [{"id": step, "state": "complete", "seconds": 1.25, "upstream": UPSTREAM[step]} for step in STEPS],
    "window": None,
    "data": {
        "layouts": {"cats_vs_dogs": "class_folders"},
        "accepted": {"train": 381, "eval": 50, "test": 54},
        "classes": {"train": {"cat": 181, "dog": 200}, "eval": {"cat": 50}, "test": {"cat": 30, "dog": 24}},
        "formats": {"JPEG": 485},
        "rejected": {"empty": 1, "truncated": 2},
        "rejected_files": [
            {"dataset": "cats_vs_dogs", "file_name": name, "reason": "empty", "detail": f"{name} is empty (0 bytes)"}
            for name in ("cat/1.jpg", "dog/2.jpg", "dog/3.jpg")
        ],
    },
    "vectors": None,
    "models": {"feature_extraction": model(0.907), "fine_tuned": model(0.944)},
    "further": None,
    "winner": "feature_extraction",
    "verdict": {"text": "no proven gain", "difference": 0.02, "interval": [0.0, 0.06], "p_value": 1.0},
    "release": {"text": "at least release.minimum_accuracy (70.0%)", "released": True, "forced": ""},
    "servable": {"text": "a fresh process answered 16 photos", "servable": True},
    "production": {"before": None, "after": "1795395593", "folder": "/warmstart/runs/cats_vs_dogs/serving"},
    "duration_seconds": 83.2,
}
NOTHING = dict.fromkeys(["window", "data", "vectors", "models", "further", "winner", "verdict", "release", "servable"])
STOPPED = {
    **PUSHED,
    **NOTHING,
    "config": None,
    "status": "stopped",
    "reason": "no photos in /warmstart/photos; expected folders named as the classes",
    "nodes": [],
    "production": {"before": None, "after": None, "folder": "/warmstart/runs/cats_vs_dogs/serving"},
    "duration_seconds": 0.0,
}
SUMMARIES: dict[str, dict[str, Any]] = {
    "pushed": PUSHED,
    "not pushed": {
        **PUSHED,
        "status": "not_pushed",
        "reason": "the winner loses 3.0 points against production",
        "release": {"text": "the winner loses 3.0 points against production", "released": False, "forced": ""},
        "nodes": [*PUSHED["nodes"][:-1], {"id": "Pusher", "state": "skipped", "seconds": 0.0}],
    },
    "stopped without a plan": STOPPED,
    "stopped at the gate": {
        **PUSHED,
        **NOTHING,
        "data": PUSHED["data"],
        "status": "stopped",
        "reason": "12 % of the files were rejected",
        "nodes": [*PUSHED["nodes"][:2], *({"id": s, "state": "not_reached", "seconds": 0.0} for s in STEPS[2:])],
    },
    "failed": {
        **PUSHED,
        **NOTHING,
        "status": "failed",
        "reason": "FineTuning was killed while it was running",
        "nodes": [{"id": step, "state": "failed", "seconds": 0.0} for step in STEPS],
    },
    "failed after the models": {**PUSHED, "status": "failed", "winner": None, "verdict": None, "release": None},
    "skipped": {
        **PUSHED,
        "status": "skipped",
        "reason": "this model is already in production",
        "nodes": [{"id": step, "state": "cached", "seconds": 0.0} for step in STEPS],
        "production": {**PUSHED["production"], "before": "1795395593"},
    },
}
assert {one["status"] for one in SUMMARIES.values()} == {"pushed", "not_pushed", "stopped", "failed", "skipped"}


def drawn(seed: int, side: int = 96) -> str:
    """A small picture as the page holds it."""
    rng = random.Random(seed)
    image = Image.new("RGB", (side, side * 3 // 4), (rng.randrange(90, 255), rng.randrange(90, 255), 120))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = rng.randrange(side), rng.randrange(side), rng.randrange(6, 30)
        pen.ellipse([x, y, x + size, y + size], fill=tuple(rng.randrange(256) for _ in range(3)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def history(epochs: int, seed: int, rate: float, warm: bool = False) -> dict[str, Any]:
    """As the trainer writes it."""
    rng = random.Random(seed)
    found = [
        {
            "train_loss": 0.5 * 0.9**i + 0.05 * rng.random(),
            "train_accuracy": 1 - 0.3 * 0.9**i + 0.01 * rng.random(),
            "eval_loss": 0.4 * 0.92**i + 0.1 + 0.05 * rng.random(),
            "eval_accuracy": 0.94 - 0.2 * 0.9**i + 0.02 * rng.random(),
            "learning_rate": rate * 0.98**i,
        }
        for i in range(epochs)
    ]
    smoothed, sums = [], {}
    for epoch in found:
        sums = {key: 0.6 * sums.get(key, value) + 0.4 * value for key, value in epoch.items()}
        smoothed.append(sums)
    return {
        "before": {"eval_loss": 0.69, "eval_accuracy": 0.5},
        "epochs": found,
        "smoothed": smoothed,
        "best_epoch": max(1, epochs - 2),
        "resumed_from": 0,
        "learning_rate": rate,
        "trainable_variables": ["head/kernel:0", "head/bias:0"],
        "trainable_parameters": 2562,
        "strategy": "top" if warm else "feature_extraction",
        "strategy_reason": "",
        "trained_on": "cached feature vectors",
        "devices": "CPU, float32",
        "calibration": {"temperature": 1.1, "eval_loss_before": 0.06, "eval_loss_after": 0.05},
        "warm_start": {
            "source": "this run's feature-extraction model",
            "step_zero": "same answers as the source on 16 photos, within 7e-08",
            "matched": ["a", "b"],
            "skipped": [],
            "missing": [],
            "unused": [],
            "new_classes": [],
            "dropped_classes": [],
        }
        if warm
        else None,
    }


def whole_run(labels: list[str], name: str = "photo.jpg", seed: int = 7) -> tuple[dict[str, Any], dict[str, Any]]:
    """A summary and findings in which nothing is missing.

    Args:
      labels: the classes, as hostile as one likes.
      name: what the name of each photo begins with.
      seed: of the drawings and numbers.
    """
    rng = random.Random(seed)
    models = ["feature_extraction", "fine_tuned", "ensemble", "production"]
    thumbnails = [drawn(seed + i) for i in range(12)]

    def photo(label: str | None = None) -> dict[str, Any]:
        return {
            "name": f"{name} {rng.randrange(10000)}",
            "label": label or rng.choice(labels),
            "split": rng.choice(["train", "eval", "test"]),
            "thumbnail": rng.choice([*thumbnails, None]),
        }

    def answered(one: dict[str, Any], place: int) -> dict[str, Any]:
        """The first four photos are answered wrongly, the fourth to the seventh without being sure."""
        wrong, unsure, label = place < 4, 3 <= place < 7, labels.index(one["label"])
        answer = labels[(label + 1) % len(labels)] if wrong else one["label"]
        return {
            "photo": {**one, "split": "test"},
            "classes": sorted({one["label"], answer}),
            "answer": answer,
            "probability": 0.41 if unsure else 0.98,
            "runner_up": labels[(label + 2) % len(labels)],
            "runner_up_probability": 0.39 if unsure else 0.01,
            "wrong": wrong,
            "unsure": unsure,
        }

    def matrix() -> list[list[int]]:
        return [
            [
                rng.randrange(12, 25) if i == j else int(rng.random() < 0.06) * rng.randrange(1, 6)
                for j in range(len(labels))
            ]
            for i in range(len(labels))
        ]

    def slices(accuracy: float) -> dict[str, Any]:
        def part() -> dict[str, Any]:
            examples = rng.randrange(4, 60)
            value = min(1.0, max(0.0, accuracy + rng.uniform(-0.3, 0.1)))
            return {"examples": examples, "accuracy": measured(value), "enough": examples >= 20}

        return {
            "label": {label: part() for label in labels},
            "image_size": {"below 256 px": part(), "256-511 px": part()},
            "dataset": {"cats_vs_dogs": part()},
        }

    confusion = {one: matrix() for one in models}
    summary = copy.deepcopy(PUSHED)
    seconds = [0.1, 5.4, 6.0, 0.1, 0.1, 1.4, 16.2, 13.4, 60.5, 8.1, 2.2, 1.3, 0.2, 0.1, 7.7, 0.3]
    summary["nodes"] = [
        {**node, "state": "cached" if node["id"] == "Transform" else "complete", "seconds": time}
        for node, time in zip(PUSHED["nodes"], seconds, strict=True)
    ]
    summary["data"]["classes"] = {
        split: {label: rng.randrange(most // 2, most) for label in labels}
        for split, most in (("train", 200), ("eval", 30), ("test", 30))
    }
    summary["data"]["accepted"] = {split: sum(n.values()) for split, n in summary["data"]["classes"].items()}
    for one, accuracy in zip(models[:3], (0.907, 0.944, 0.93), strict=True):
        summary["models"][one] = {**model(accuracy), "slices": slices(accuracy), "confusion_matrix": confusion[one]}
        summary["models"][one]["per_class"] = {label: {"examples": 3} for label in labels}
    summary["config"] |= {"training": {"seed": 42, "fine_tuning": {"epochs": 5, "unfreeze": None}}, "data": {"span": 3}}
    far = {"file_name": name, "label": labels[0], "content_hash": "00", "distance": 0.41}
    summary["drift"] = {
        "text": "the new photos are like the old ones",
        "action": "note",
        "checks": {
            "labels": {
                "action": "go",
                "text": "as many",
                "distance": 0.01,
                "null": 0.02,
                "threshold": 0.1,
                "drifted": False,
            },
            "vectors": {
                "action": "note",
                "text": f"{labels[-1]!r} most of all",
                "distance": 0.3,
                "null": None,
                "threshold": 0.2,
            },
        },
        "far_photos": [{**far, "neighbours": [far]}],
        "far_photos_found": 3,
    }
    summary["versions"] = {"warmstart": "0.1.0", "tensorflow": "2.16.2", "tfx": "1.16.0"}
    summary["data_fingerprint"] = "3f1c" * 16
    files = summary["data"]["rejected_files"]
    for file in files:
        file["file_name"] = f"{name} {file['file_name']}"
        file["detail"] = f"{file['file_name']} is empty (0 bytes)"
    corrected = {"file_name": name, "split": "train", "old_label": labels[0], "who": name}
    summary["data"]["corrections"] = {
        "changed": 1, "dropped": 1, "unmatched": {},
        "photos": [{**corrected, "new_label": labels[-1], "answer": labels[0], "probability": 0.75}, corrected],
    }  # fmt: skip
    edges = [i / 10 for i in range(11)]
    findings = {
        "data": {
            "sizes": {"edges": [64 * i for i in range(1, 12)], "counts": [3, 9, 40, 81, 120, 90, 60, 40, 20, 2]},
            "rejected": [
                {"name": file["file_name"], "reason": file["reason"], "detail": "", "thumbnail": uri}
                for file, uri in zip(files, (None, *thumbnails[:2]), strict=True)
            ],
            "near_duplicates": {
                "looked_at": 485,
                "of": 485,
                "found": 7,
                "pairs": [
                    {"method": method, "distance": distance, "photos": [photo(), photo()]}
                    for method, distance in (("perceptual hash", 2), ("feature vector", 0.0132), ("perceptual hash", 4))
                ],
            },
            "suspected_labels": {
                "looked_at": 485,
                "of": 485,
                "found": 4,
                "photos": [
                    {
                        "photo": photo(),
                        "suggested": rng.choice(labels),
                        "probability": 0.97,
                        "probability_of_label": 0.01,
                    }
                    for _ in range(4)
                ],
            },
        },
        "training": {
            "feature_extraction": history(30, seed, 1e-3),
            "fine_tuned": history(6, seed + 1, 1e-4, warm=True),
        },
        "comparison": {
            "labels": labels,
            "split": "test",
            "models": models,
            "metrics": {
                one: {
                    key: measured(0.9 if key == "accuracy" else 0.1)
                    for key in ("accuracy", "loss", "calibration_error")
                }
                for one in models
            },
            "reliability": {
                one: {
                    "edges": edges,
                    "confidence": [None if i < 3 else edge + 0.05 for i, edge in enumerate(edges[:10])],
                    "accuracy": [
                        None if i < 3 else min(1.0, edge + rng.uniform(-0.1, 0.1)) for i, edge in enumerate(edges[:10])
                    ],
                    "count": [0, 0, 0, 1, 2, 3, 5, 9, 20, 60],
                }
                for one in models
            },
            "confusion": confusion,
            "confused_pairs": {
                one: [{"true": rng.choice(labels), "predicted": rng.choice(labels), "count": 6 - i} for i in range(5)]
                for one in models
            },
            "disagreements": {
                "found": 8,
                "photos": [
                    {
                        "photo": photo(labels[0]),
                        "answers": {
                            one: {"label": labels[i % len(labels)], "probability": 0.6 + 0.1 * i}
                            for i, one in enumerate(models)
                        },
                    }
                    for _ in range(8)
                ],
            },
            "worst": {
                one: [
                    {
                        "photo": photo(),
                        "predicted": rng.choice(labels),
                        "probability": 0.99,
                        "heat_map": rng.choice([*thumbnails, None]),
                        "heat_map_method": "Grad-CAM",
                    }
                    for _ in range(5)
                ]
                for one in models
            },
        },
        "gallery": {
            "model": "feature_extraction",
            "of": 1234,
            "wrong": 9,
            "unsure": 5,
            "photos": [answered(photo(), i) for i in range(14)],
        },
        "cost": {
            "nodes": {
                step: {"peak_megabytes": None if step == "Pusher" else 800.0 + 10 * i} for i, step in enumerate(STEPS)
            },
            "models": {
                one: {"megabytes": 15.1, "latency_milliseconds": None if one == "production" else 18.6}
                for one in models
            },
        },
    }
    return summary, findings


def history_of(runs: int, reasons: list[str]) -> History:
    """Runs and versions as `warmstart history --json` has them."""
    rng = random.Random(3)
    found = []
    for i in range(runs):
        status = ("pushed", "not_pushed", "failed", "skipped", "unfinished")[i % 5]
        known = status in ("pushed", "not_pushed", "skipped")
        gain = rng.uniform(-0.02, 0.04)
        found.append(
            {
                "run_id": f"2026-11-{i + 1:02d}T03-00-00Z",
                "status": status,
                "reason": reasons[i % len(reasons)],
                "winner": "fine_tuned" if known else None,
                "accuracy": measured(0.85 + 0.008 * i) if known else None,
                "difference": gain if known else None,
                "interval": [gain - 0.01, gain + 0.02] if known else None,
                "verdict": "fine-tuned wins" if known else None,
                "production_before": i or None,
                "production_after": i + 1,
                "duration_seconds": 60.0 * i if known else None,
            }
        )
    version = {
        "version": 7,
        "pushed_at": "2026-11-01T03:01:00Z",
        "winner": "fine_tuned",
        "metrics": {"accuracy": measured(0.9)},
        "restores": None,
        "forced": None,
        "state": "production",
        "pinned": True,
        "reason": reasons[0],
    }
    versions = [version, {**version, "metrics": None, "winner": None}]
    return from_json(History, {"production": 7, "problem": "", "versions": versions, "runs": found})
