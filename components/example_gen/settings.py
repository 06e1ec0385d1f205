"""The settings of ImageExampleGen: which photos to read, and how."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from components.example_gen.found_photos import FolderRules
from components.example_gen.photo_rules import PhotoRules

# The parameter of ImageExampleGen that holds them.
PHOTOS_KEY = "photos"
Rules = TypeVar("Rules", PhotoRules, FolderRules)
S = TypeVar("S", bound="IngestSettings")


@dataclass(frozen=True)
class IngestSettings:
    """The settings of the executor."""

    sources: dict[str, str]
    """Data set -> folder."""
    label_from: str
    """`label` or `species`."""
    rules: PhotoRules
    folder_rules: FolderRules = field(default_factory=FolderRules)
    corrections: str = ""
    """Path of the file of corrections; empty: there is none."""
    corrections_fingerprint: str = ""

    def to_json(self) -> str:
        """The text of the parameter `photos`, all keys on one level.

        Folder rules and corrections are included only where they differ from the defaults, so that the cache keys of
        older runs still match.
        """
        usual = asdict(FolderRules())
        folder_rules = {name: value for name, value in asdict(self.folder_rules).items() if value != usual[name]}
        own = {name: value for name, value in vars(self).items() if name not in ("rules", "folder_rules")}
        own = {name: value for name, value in own.items() if value or not name.startswith("corrections")}
        return json.dumps({**own, **asdict(self.rules), **folder_rules}, sort_keys=True)

    @classmethod
    def from_json(cls: type[S], text: str) -> S:
        values = json.loads(text)
        rules, folder_rules = _take(PhotoRules, values), _take(FolderRules, values)
        return cls(**values, rules=rules, folder_rules=folder_rules)


def _take(kind: type[Rules], values: dict[str, Any]) -> Rules:
    """Removes the rules from `values` and returns them; missing rules get their defaults."""
    return kind(**{field.name: values.pop(field.name) for field in fields(kind) if field.name in values})
