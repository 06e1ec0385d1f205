"""What makes data unfit to train on; plain Python over counts and anomalies."""

from __future__ import annotations

from typing import Any

from schemas.features import SPLITS


def find_problems(
    report: dict[str, Any],
    rejected: list[dict[str, str]],
    anomalies: dict[str, dict[str, str]],
    max_rejected_fraction: float,
    whole: bool = True,
) -> list[str]:
    """One sentence for each reason to stop; empty when the data are fit.

    Args:
      report: counts of the ingest report (`report.json`).
      rejected: the rejected files (`rejected.jsonl`).
      anomalies: split -> feature -> description of each ERROR anomaly of ExampleValidator.
      max_rejected_fraction: `data.max_rejected_fraction`.
      whole: False for a part of the data, in which classes and splits may be missing.
    """
    accepted, refused = report["accepted"], len(rejected)
    if accepted == 0:
        return [
            f"no photo could be read: all {refused} files were rejected ({_reasons(report)}); expected JPEG, PNG, "
            f"GIF or BMP photos; the first: {rejected[0]['detail']}"
            if rejected
            else "no photo was found; expected JPEG, PNG, GIF or BMP photos"
        ]
    problems = []
    fraction = refused / (accepted + refused)
    if fraction > max_rejected_fraction:
        problems.append(
            f"{refused} of {accepted + refused} files were rejected ({fraction:.1%}: {_reasons(report)}), more than "
            f"data.max_rejected_fraction ({max_rejected_fraction:.1%}); replace the files or raise the limit; the "
            f"first: {rejected[0]['detail']}"
        )
    classes = sorted({label for counts in report["splits"].values() for label in counts})
    if whole and len(classes) == 1:
        problems.append(
            f"all {accepted} accepted photos are of one class, {classes[0]!r}; expected at least two, one folder each"
        )
    problems += [
        f"the {split} split got none of the {accepted} accepted photos; add photos or change data.splits"
        for split in SPLITS
        if whole and not report["splits"].get(split)
    ]
    not_trained = [c for c in classes if c not in report["splits"].get("train", {})]
    if whole and len(classes) > 1 and report["splits"].get("train") and not_trained:
        problems.append(f"no photo of {_names(not_trained)} is in the train split, so it cannot be learnt; add photos")
    for split, by_feature in anomalies.items():
        for feature, description in sorted(by_feature.items()):
            problems.append(f"the {split} split breaks the schema at {feature!r}: {description}")
    return problems


def _reasons(report: dict[str, Any]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in report["reasons"].items())


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
