"""Dataclasses that are kept as JSON. A misspelt key is an error of mypy, and not of the reader at night.

Imports nothing slow: what has to be quick, such as `warmstart rollback`, reads such records too.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")
# Metadata of a field that has no key in the JSON where it is None; other fields are written as null.
OPTIONAL = {"optional": True}
_SHOWN_CHARACTERS = 60


def to_json(record: DataclassInstance) -> dict[str, Any]:
    """The record and all records in it, as `json.dumps` takes them."""
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) is not None or not field.metadata.get("optional")
    }


def from_json(kind: type[Record], found: object) -> Record:
    """A record of what a file holds. Keys that the record does not know are passed over.

    Args:
      kind: a dataclass, whose fields are `Any`, numbers, texts, records, None, or lists and dicts of these.
      found: what `json.loads` gives.

    Raises:
      ValueError: a key that has no default is missing, or a value is of another type; the sentence names the key.
    """
    return _read_record(kind, found, "")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read_record(kind: type[Record], found: object, key: str) -> Record:
    if not isinstance(found, Mapping):
        raise _other_type(found, "keys with values", key)
    beginning = f"{key}." if key else ""
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in found:
            given[field.name] = _read(_types(kind)[field.name], found[field.name], beginning + field.name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"there is no {beginning}{field.name}")
    return kind(**given)


def _read(kind: Any, found: Any, key: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return found
    if origin in (typing.Union, types.UnionType):
        if found is None and types.NoneType in inner:
            return None
        [kind] = [each for each in inner if each is not types.NoneType]
        return _read(kind, found, key)
    if dataclasses.is_dataclass(kind):
        return _read_record(typing.cast("type[DataclassInstance]", kind), found, key)
    if origin is list and isinstance(found, list):
        return [_read(inner[0], item, f"{key}[{i}]") for i, item in enumerate(found)]
    if origin is dict and isinstance(found, Mapping):
        return {name: _read(inner[1], item, f"{key}.{name}") for name, item in found.items()}
    expected = origin or kind
    if isinstance(found, (int, float) if expected is float else expected):
        return found
    raise _other_type(found, expected.__name__, key)


def _other_type(found: object, expected: str, key: str) -> ValueError:
    shown = repr(found)
    shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"
    return ValueError(f"{key or 'it'} is {shown}, expected {expected}")
