"""Reads a configuration from YAML and validates it completely, before TensorFlow or TFX is imported.

    config = load_config("cats_vs_dogs", overrides=["image.size=224"], data=["/photos"])

A configuration file is YAML with the keys of `Config`; keys that it leaves out have their defaults. The ready-made
ones are in `pipeline/configs`. All problems are reported at once, each with the nearest valid key.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from components.backbone import registry
from pipeline.config.config import Config
from pipeline.config.problems import unknown_keys, value_problems
from schemas.errors import BadInput
from schemas.features import DATASETS
from schemas.words import did_you_mean, on_one_line

CONFIGS_FOLDER = Path(__file__).parents[1] / "configs"
# A configuration has some hundred keys, four levels deep.
_MOST_LEVELS, _MOST_VALUES = 32, 20_000


def known_configs() -> list[str]:
    """Names of the configurations that come with warmstart."""
    return sorted(path.stem for path in CONFIGS_FOLDER.glob("*.yaml"))


def load_config(
    name_or_file: str,
    overrides: list[str] | None = None,
    data: list[str] | None = None,
    default_folder: str = "",
) -> Config:
    """Reads, overrides and validates a configuration.

    Args:
      name_or_file: one of `known_configs()`, or the path of a YAML file.
      overrides: `key.subkey=value` each, the value in YAML.
      data: `FOLDER` for a configuration of one data set, or `DATASET=FOLDER` each.
      default_folder: folder of photos whose folder is not given; each of several data sets has its own below it.

    Raises:
      BadInput: the configuration is wrong; the message has every problem, one on each line.
    """
    raw = _read_yaml(name_or_file)
    problems: list[str] = []
    for override in overrides or []:
        problems += _apply_override(raw, override)
    problems += _apply_data(raw, data or [], default_folder)
    problems += unknown_keys(raw, Config, ())
    config: Config | None = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems += value_problems(error)
    if config is not None:
        problem = registry.check_handle(config.backbone.handle)
        if problem:
            problems.append(f"backbone.handle: {problem}")
        missing = [dataset for dataset, folder in config.data.sources.items() if not folder]
        if missing and len(config.data.sources) == 1:
            problems.append(f"no folder given: say where the {missing[0]} photos are with --data DIR")
        elif missing:
            flags = " ".join(f"--data {dataset}=DIR" for dataset in config.data.sources)
            problems.append(f"no folder given for {' and '.join(missing)}: use {flags}")
    if problems:
        title = f"configuration {name_or_file}: "
        if len(problems) == 1:
            raise BadInput(title + problems[0])
        raise BadInput(title + f"{len(problems)} problems\n" + "\n".join(f"  - {p}" for p in problems))
    assert config is not None
    return config


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML, from which the same configuration can be read again."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_dumped_config(file: Path) -> Config:
    """The configuration that `dump_config` wrote into a run's folder.

    Raises:
      OSError, yaml.YAMLError, ValidationError: it is missing, or another version of warmstart wrote it.
    """
    return Config.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def _read_yaml(name_or_file: str) -> dict[str, Any]:
    looks_like_file = "/" in name_or_file or name_or_file.endswith((".yaml", ".yml"))
    path = Path(name_or_file) if looks_like_file else CONFIGS_FOLDER / f"{name_or_file}.yaml"
    if not os.path.isfile(path):
        if looks_like_file:
            found = "is a folder" if os.path.isdir(path) else "does not exist"
            raise BadInput(f"configuration file {path} {found}; expected a YAML file")
        near = did_you_mean(name_or_file, known_configs())
        raise BadInput(
            f"unknown configuration {name_or_file!r}{near + ' Known' if near else '; known'}: "
            f"{', '.join(known_configs())}, or the path of a YAML file"
        )
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_excess(text)
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise BadInput(f"configuration file {path} cannot be read as YAML: {on_one_line(error, most=None)}") from None
    if raw is None:
        raise BadInput(f"configuration file {path} is empty; expected keys such as `data:`")
    if not isinstance(raw, dict):
        raise BadInput(f"configuration file {path} contains a {type(raw).__name__}; expected keys such as `data:`")
    return raw


def _refuse_excess(text: str) -> None:
    """Refuses YAML that is nested deeper, or repeats more through its aliases, than anybody can mean."""
    values, within = 0, dict[str | None, int]()
    opened = list[tuple[str | None, int]]()  # the anchor of every open collection, and the values before it
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            values += within.get(event.anchor, 0)
            if event.anchor in (anchor for anchor, _ in opened):
                raise ValueError(f"the alias *{event.anchor} is part of what it stands for")
        elif isinstance(event, yaml.CollectionStartEvent):
            values += 1
            opened.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                within[anchor] = values - before + 1
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
        if len(opened) > _MOST_LEVELS:
            raise ValueError(f"it is nested more than {_MOST_LEVELS} levels deep")
        if values > _MOST_VALUES:
            raise ValueError(f"it has more than {_MOST_VALUES:,} values, including those that its aliases repeat")


class _Loader(yaml.SafeLoader):
    """Refuses a repeated key, of which YAML would silently use the last, and reads 010 as ten instead of eight."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        decimal = re.fullmatch("[0-9]+", node.value)
        return int(node.value) if decimal else super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} appears twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _apply_override(raw: dict[str, Any], override: str) -> list[str]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        return [f"--set {override!r}: expected key=value, such as image.size=224"]
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return [f"--set {override!r}: the value cannot be read as YAML"]
    # YAML 1.1 reads 1e-3 as text; a person means the number.
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        value = float(value)
    *parents, last = key.split(".")
    section: Any = raw
    for name in parents:
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            return [f"--set {override!r}: {name} is a value, not a section"]
    section[last] = value
    return []


def _apply_data(raw: dict[str, Any], data: list[str], default_folder: str) -> list[str]:
    sources = (raw.get("data") or {}).get("sources") if isinstance(raw.get("data"), dict) else None
    if not isinstance(sources, dict):
        return []  # the validation reports it
    problems = []
    given = set()
    for item in data:
        name, equals, folder = item.partition("=")
        dataset = None
        if equals and name in DATASETS:
            if name in sources:
                dataset = name
            else:
                problems.append(
                    f"--data {item}: this configuration has no data set {name}; expected "
                    + " or ".join(map(str, sources))
                )
        elif equals and "/" not in name and _close_dataset(name):
            problems.append(f"--data {item}: unknown data set {name!r}{did_you_mean(name, list(DATASETS))}")
        elif len(sources) == 1:
            dataset, folder = next(iter(sources)), item
        else:
            problems.append(
                f"--data {item}: this configuration has {len(sources)} data sets; expected "
                + " ".join(f"--data {source}=DIR" for source in sources)
            )
        if dataset in given:
            problems.append(f"--data {item}: {dataset} already has a folder; expected one folder for each data set")
        elif dataset is not None:
            sources[dataset] = folder
            given.add(dataset)
    for source in sources if default_folder else ():
        sources[source] = sources[source] or (f"{default_folder}/{source}" if len(sources) > 1 else default_folder)
    return problems


def _close_dataset(name: str) -> bool:
    return bool(difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.6))
