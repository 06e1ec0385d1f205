"""The card of a pushed model, in the format of Hugging Face: Markdown that begins with YAML for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from components.backbone.registry import BACKBONES
from components.report.page import text_only
from schemas.features import SEGMENTATION
from schemas.release import Interval
from schemas.summary import ClassMetrics, DataSummary, ModelSummary, Summary
from schemas.words import and_more, spelled

_MOST_CLASSES, _MOST_SLICES = 60, 5
_USES = {"train": "training", "eval": "choosing epoch and model, calibration", "test": "the results below"}
# Key of a model -> what it is called here, and Hugging Face's name for the metric.
_METRICS = {
    "mean_iou": ("mean IoU", "mean_iou"),
    "photo_mean_iou": ("mean IoU of a photo", None),
    "accuracy": ("accuracy", "accuracy"),
    "top_3_accuracy": ("top-3 accuracy", None),
    "auc": ("area under the ROC curve", "roc_auc"),
    "loss": ("log loss (nats)", None),
    "calibration_error": ("calibration error", "expected_calibration_error"),
}
_IN_PERCENT = ("mean_iou", "photo_mean_iou", "accuracy", "top_3_accuracy", "calibration_error")
_PHASES = {
    "feature_extraction": "Only a new head was trained, on its frozen features.",
    "fine_tuned": "A new head was trained on its frozen features first, and then its top with the head.",
    "ensemble": "The model gives the mean of the probabilities of two: a new head on its frozen features, and the same "
    "fine-tuned.",
}


@dataclass(frozen=True)
class _ClassRow:
    label: str
    examples: int
    measured: dict[str, str]

    @property
    def columns(self) -> list[str]:
        return list(self.measured)


def model_card(summary: Summary, version: int) -> str:
    """The card of the model that a run pushed.

    Args:
      summary: of the run, which must have a winner and its metrics. Text from names of files and classes is escaped.
    """
    shown = text_only(summary)
    assert shown.models is not None
    assert shown.winner is not None
    model, config = shown.models[shown.winner], shown.config or {}
    masks = (config.get("task") or {}).get("kind") == SEGMENTATION
    data = shown.window.data if shown.window and shown.window.data else shown.data
    license_name = str((config.get("release") or {}).get("license") or "unknown")
    selection = config.get("selection") or {}
    card = _template().render(
        s=shown,
        version=version,
        front_matter=yaml.safe_dump(
            _front_matter(shown, model, masks, license_name), sort_keys=False, allow_unicode=True, width=1000
        ),
        masks=masks,
        labels=list(model.per_class),
        abstain_below=(config.get("serving") or {}).get("abstain_below"),
        image=config.get("image") or {},
        data=data,
        spans=shown.window.spans if shown.window else [],
        uses=_USES,
        contents={split: _content(data, split, masks) for split in data.accepted} if data else {},
        backbone=_backbone(config),
        phase=_PHASES.get(shown.winner, ""),
        model=model,
        training=model.training,
        confidence=f"{selection.get('confidence', 0.95):.0%}",
        metrics=_measured(model),
        classes=_classes(model),
        verdicts=_verdicts(shown),
        limits=_limits(shown, model, masks),
        license=license_name,
        made_with=_made_with(shown),
    )
    return re.sub(r"\n{3,}", "\n\n", card)


def _front_matter(summary: Summary, model: ModelSummary, masks: bool, license_name: str) -> dict[str, Any]:
    """What Hugging Face's hub reads of a card (https://huggingface.co/docs/hub/model-cards#model-card-metadata)."""
    task = "image-segmentation" if masks else "image-classification"
    measured = [
        {"type": known, "value": round(found.value, 6), "name": name}
        for key, (name, known) in _METRICS.items()
        if known and (found := getattr(model, key))
    ]
    dataset = {"type": summary.name, "name": summary.name, "split": model.split}
    result = {"task": {"type": task}, "dataset": dataset, "metrics": measured}
    return {
        "license": license_name,
        "library_name": "warmstart",
        "pipeline_tag": task,
        "tags": ["warmstart", "tensorflow", "saved-model", "transfer-learning"],
        "model-index": [{"name": summary.name, "results": [result]}],
    }


def _content(data: DataSummary, split: str, masks: bool) -> str:
    """The classes of a split, with how many photos or what share of the pixels each has."""
    if masks:
        counted = (data.pixel_classes or {}).get(split, {})
        total = sum(found.pixels for found in counted.values()) or 1
        listed = [f"{_escaped(label)} {found.pixels / total:.1%}" for label, found in counted.items()]
    else:
        listed = [f"{_escaped(label)} {count:,}" for label, count in data.classes.get(split, {}).items()]
    return and_more(listed, _MOST_CLASSES)


def _backbone(config: Mapping[str, Any]) -> dict[str, str]:
    handle = str((config.get("backbone") or {}).get("handle", ""))
    known = BACKBONES.get(handle)
    if known is None:
        return {"name": Path(handle).name if "://" not in handle else handle, "about": "", "licence": ""}
    return {"name": known.name, "about": ", with weights of ImageNet", "licence": known.licence}


def _measured(model: ModelSummary) -> list[tuple[str, str, str]]:
    """Name, value and interval of each metric."""
    found = []
    for key, (name, _) in _METRICS.items():
        if measured := getattr(model, key):
            name = "accuracy of a pixel" if key == "accuracy" and model.mean_iou else name
            found.append((name, *_numbers(measured, key in _IN_PERCENT)))
    return found


def _numbers(measured: Interval, percent: bool) -> tuple[str, str]:
    if percent:
        return f"{measured.value:.1%}", f"{measured.low:.1%} to {measured.high:.1%}"
    return f"{measured.value:.3f}", f"{measured.low:.3f} to {measured.high:.3f}"


def _classes(model: ModelSummary) -> list[_ClassRow]:
    """The classes with their metrics, the lowest first where there are too many for a table."""
    names = ("iou", "precision", "recall") if model.mean_iou else ("precision", "recall", "f1")

    def lowest(item: tuple[str, ClassMetrics]) -> float:
        found = getattr(item[1], "iou" if model.mean_iou else "recall")
        return found.value if found else 2.0

    items = list(model.per_class.items())
    if len(items) > _MOST_CLASSES:
        items = sorted(items, key=lowest)[:_MOST_CLASSES]
    return [
        _ClassRow(label, row.examples, {_title(name): _share(getattr(row, name)) for name in names})
        for label, row in items
    ]


def _title(name: str) -> str:
    return {"iou": "IoU", "f1": "F1"}.get(name, name)


def _share(measured: Interval | None) -> str:
    return "{} ({})".format(*_numbers(measured, percent=True)) if measured else "undefined"


def _verdicts(summary: Summary) -> dict[str, str]:
    parts = {"Choice": summary.verdict, "Release": summary.release, "Serving": summary.servable}
    return {name: part.text for name, part in parts.items() if part}


def _limits(summary: Summary, model: ModelSummary, masks: bool) -> list[str]:
    """What the numbers of the run do not show, or show to be weak; one sentence each."""
    what = "every pixel" if masks else "every photo"
    found = [
        f"the model knows {len(model.per_class)} classes and gives {what} one of them, also of what is none of them",
        f"the results are those of {model.examples} photos like the ones it was trained on; of other cameras, places "
        "and times they say nothing",
    ]
    release = summary.release
    if release and release.undecided:
        found.append(release.undecided)
    if release and release.forced:
        found.append(f"it was pushed by force: {release.forced}")
    few = [
        f"{spelled(feature)} {value} ({part.examples})"
        for feature, values in model.slices.items()
        for value, part in values.items()
        if not part.enough
    ]
    if few:
        found.append(f"too few test photos to say anything: {and_more(few, _MOST_SLICES)}")
    weak = [
        (part.score.value, f"{spelled(feature)} {value}: {part.score.value:.1%} of {part.examples} photos")
        for feature, values in model.slices.items()
        for value, part in values.items()
        if part.enough and part.score.high < model.score.value
    ]
    if weak:
        weakest = and_more([text for _, text in sorted(weak)], _MOST_SLICES, "; ")
        found.append(f"it is weaker than on the whole with {weakest}")
    if not masks and release and release.look_alikes and release.look_alikes.photos:
        found.append(f"{release.look_alikes.photos} of the test photos look like photos that it was trained on")
    return found


def _made_with(summary: Summary) -> dict[str, str]:
    rows = {"run": summary.run_id, **summary.versions}
    return rows | ({"fingerprint of the data": summary.data_fingerprint} if summary.data_fingerprint else {})


def _escaped(text: object) -> str:
    """The text as Markdown shows it: on one line, in a cell of a table too, and with no meaning of its own."""
    return re.sub(r"([\\`*\[\]<>|#$&~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(str(text).split()))


def _few(labels: Sequence[str]) -> str:
    return and_more([_escaped(label) for label in labels], _MOST_CLASSES)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"md": _escaped, "few": _few, "sentence": _sentence, "spelled": spelled}
    return environment.get_template("model_card.md.j2")
