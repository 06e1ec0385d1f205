"""Chooses a configuration by the photos, if none was named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from components.example_gen import spans
from components.example_gen.layouts import guess_dataset
from pipeline.config import Config, known_configs, load_config
from schemas.errors import BadInput
from schemas.features import DATASETS

DEFAULT = "image_folder"
_LOOKS = {
    "cats_vs_dogs": "cats and dogs",
    "oxford_iiit_pet": "Oxford-IIIT Pets",
    "image_masks": "photos with masks",
}


def choose_config(
    name: str | None,
    data: Sequence[str],
    overrides: Sequence[str] = (),
    said: Callable[[str], None] = lambda text: None,
) -> tuple[str, Config]:
    """Chooses and loads the configuration of a call.

    Args:
      name: name or file of a configuration; None: the one that fits the photos, `image_folder` by default.
      said: called with a sentence on what the photos look like, if that decided.

    Returns:
      the name of the configuration, or the path of its file, and the configuration itself.

    Raises:
      BadInput: as `load_config`, or several data sets were given without a name.
    """
    name = name or _from_photos(data, said)
    return name, load_config(name, list(overrides), list(data))


def _from_photos(data: Sequence[str], said: Callable[[str], None]) -> str:
    named = [dataset for dataset in (item.partition("=")[0] for item in data if "=" in item) if dataset in DATASETS]
    if len(data) != 1:
        raise BadInput(
            f"{len(data) or 'no'} folders of photos were given without --config; expected a single folder, or --config "
            f"with one of {', '.join(known_configs())} or a YAML file"
        )
    if named:
        return named[0]  # each data set has a configuration of its name
    (source,) = data
    if source.startswith("tfds:"):
        looks_like = source.split(":")[1]
    elif spans.parse_pattern(source):
        # A folder that grows every day could look different tomorrow, so nothing is guessed.
        return DEFAULT
    else:
        looks_like = guess_dataset(os.path.expanduser(source))
    if looks_like not in _LOOKS:
        return DEFAULT
    said(f"{source} looks like {_LOOKS[looks_like]}; using --config {looks_like}")
    return looks_like
