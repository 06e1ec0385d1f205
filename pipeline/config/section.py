"""Types that the sections of the configuration share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from components.example_gen.spans import parse_pattern
from schemas.features import DATASETS, SLICES

DatasetName = Literal["cats_vs_dogs", "oxford_iiit_pet", "image_folder", "image_masks"]
assert get_args(DatasetName) == DATASETS
SliceName = Literal["label", "breed", "species", "dataset", "image_size", "image_format"]
assert get_args(SliceName) == SLICES

Fraction = Annotated[float, Field(ge=0, le=1)]


def _readable_span(source: str) -> str:
    parse_pattern(source)
    return source


Source = Annotated[str, AfterValidator(_readable_span)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return pattern


def absolute(folder: str) -> str:
    """The absolute path of a folder; names of TensorFlow Datasets and addresses stay as they are."""
    if not folder or folder.startswith("tfds:") or "://" in folder:
        return folder
    return str(Path(os.path.expanduser(folder)).absolute())
