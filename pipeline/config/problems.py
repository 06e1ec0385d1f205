"""One sentence for each problem of a configuration, with the nearest right key."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config.config import all_keys
from pipeline.config.release import StepResources
from schemas.features import DATASETS, SLICES
from schemas.words import did_you_mean

# pydantic's names for unknown keys, for which `unknown_keys` has better sentences.
_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")


def value_problems(error: ValidationError) -> list[str]:
    """One sentence for each value that the types refuse."""
    return [_sentence(e) for e in error.errors() if e["type"] not in _UNKNOWN_KEY]


def unknown_keys(raw: Any, section: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """One sentence for each unknown key, at any depth."""
    if not isinstance(raw, dict):
        return []
    problems = []
    for key, value in raw.items():
        field = section.model_fields.get(str(key))
        dotted = ".".join((*path, str(key)))
        if field is None:
            near = _nearest_key(str(key), path, section)
            problems.append(f"unknown key {dotted!r}{near}")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            problems += unknown_keys(value, field.annotation, (*path, str(key)))
        elif field.annotation == dict[str, StepResources] and isinstance(value, dict):
            for step, resources in value.items():
                problems += unknown_keys(resources, StepResources, (*path, str(key), str(step)))
    return problems


def _nearest_key(key: str, path: tuple[str, ...], section: type[BaseModel]) -> str:
    same_name = [dotted for dotted in all_keys() if dotted.rsplit(".", 1)[-1] == key]
    if same_name:
        return f"; did you mean {' or '.join(map(repr, same_name))}?"
    close = difflib.get_close_matches(key, list(section.model_fields), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {'.'.join((*path, close[0]))!r}?"
    where = ".".join(path) or "a configuration"
    return f"; {where} has: {', '.join(section.model_fields)}"


def _sentence(error: Any) -> str:
    parts = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(parts)
    message = error["msg"].removeprefix("Value error, ")
    if not parts:
        return message
    if error["type"] == "missing":
        return f"{key} is missing"
    message = message[0].lower() + message[1:]
    found = error.get("input")
    if error["type"] in ("model_type", "dict_type"):
        below = [known for known in all_keys() if known.startswith(key + ".")]
        if parts[:2] == ["runtime", "steps"]:
            below = [f"runtime.steps.{parts[2] if len(parts) > 2 else 'FineTuning'}.memory"]
        below = below or [f"{key}.{DATASETS[0]}"]
        return f"{key} {'is empty' if found is None else f'(={found!r})'}: expected keys below it, such as {below[0]}"
    if "[key]" in error["loc"] or (len(parts) == 3 and parts[:2] == ["data", "sources"] and parts[2] not in DATASETS):
        what, known = ("slice", SLICES) if parts[-2] == "minimum_slice_accuracy" else ("data set", DATASETS)
        near = did_you_mean(parts[-1], list(known))
        return f"{'.'.join(parts[:-1])}: unknown {what} {parts[-1]!r}{near or '; known: ' + ', '.join(known)}"
    return f"{key} (={found!r}): {message}"
