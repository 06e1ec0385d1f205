"""Which configuration a call means that names none: the photos tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from components.example_gen import spans
from components.example_gen.layouts import guess_dataset
from pipeline.config import Config, known_configs, load_config
from schemas.errors import BadInput
from schemas.features import DATASETS

DEFAULT = "image_folder"
_LOOKS = {"cats_vs_dogs": "cats and dogs", "oxford_iiit_pet": "Oxford-IIIT Pets"}


def choose_config(
    name: str | None,
    data: Sequence[str],
    overrides: Sequence[str] = (),
    said: Callable[[str], None] = lambda text: None,
) -> tuple[str, Config]:
    """The configuration of a call, loaded.

    Args:
      name: of a configuration or its file; None: what the photos look like, `image_folder` by default.
      data, overrides: as of `load_config`.
      said: told what the photos look like, where that decided.

    Returns:
      its name, or the path of its file, and the configuration.

    Raises:
      BadInput: as `load_config`; or several data sets were given without a name.
    """
    name = name or _from_photos(data, said)
    return name, load_config(name, list(overrides), list(data))


def _from_photos(data: Sequence[str], said: Callable[[str], None]) -> str:
    named = [dataset for dataset in (item.partition("=")[0] for item in data if "=" in item) if dataset in DATASETS]
    if len(data) != 1:
        raise BadInput(
            f"{len(data) or 'no'} folders of photos were given without --config; expected one folder, or --config with "
            f"one of {', '.join(known_configs())} or a YAML file"
        )
    if named:
        return named[0]  # each data set has a configuration of its name
    (source,) = data
    if source.startswith("tfds:"):
        looks_like = source.split(":")[1]
    elif spans.parse_pattern(source):
        # Of a folder that grows every day nothing is guessed that could be another tomorrow.
        return DEFAULT
    else:
        looks_like = guess_dataset(os.path.expanduser(source))
    if looks_like not in _LOOKS:
        return DEFAULT
    said(f"{source} looks like {_LOOKS[looks_like]}, using --config {looks_like}")
    return looks_like
