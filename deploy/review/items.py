"""The photos of a run that are worth a person's look: each once, with all that was found about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.findings import KINDS, REJECTED, Finding

MOST_ITEMS = 2000


@dataclass(frozen=True)
class FoundThing:
    """One finding about a photo."""

    kind: str
    detail: str


@dataclass
class Item:
    """A photo to review; the fields are those of `Finding`."""

    content_hash: str
    path: str
    dataset: str
    span: str
    split: str
    labels: list[str] = field(default_factory=list)
    """Its labels: several if the same photo is in several classes."""
    proposal: str = ""
    probability: float | None = None
    found: list[FoundThing] = field(default_factory=list)
    """The most urgent first."""
    places: list[tuple[str, str, str]] = field(default_factory=list)
    """Data set, span and path of each of its files that is known."""


def make_items(findings: Iterable[Finding]) -> list[Item]:
    """One item for each photo whose content is known, the most urgent first; rejected files cannot be reviewed."""
    items: dict[str, Item] = {}
    for finding in sorted(findings, key=lambda finding: KINDS.index(finding.kind) if finding.kind in KINDS else 99):
        if finding.kind == REJECTED or not finding.content_hash:
            continue
        item = items.get(finding.content_hash)
        if item is None:
            item = Item(finding.content_hash, finding.path, finding.dataset, finding.span, finding.split)
            items[finding.content_hash] = item
        if finding.label and finding.label not in item.labels:
            item.labels.append(finding.label)
        if finding.proposal and not item.proposal:
            item.proposal, item.probability = finding.proposal, finding.probability
        item.found.append(FoundThing(finding.kind, finding.detail))
        place = (finding.dataset, finding.span, finding.path)
        if place not in item.places:
            item.places.append(place)
    return list(items.values())
