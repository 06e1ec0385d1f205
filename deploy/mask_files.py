"""Writes the masks that `predict --masks` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import BadInput

if TYPE_CHECKING:
    from components.example_gen.photo_rules import PhotoRules
    from deploy.answer import Answer


def mask_file(folder: Path, photo: str) -> Path:
    """Where the mask of a photo is written."""
    return folder / f"{Path(photo).stem}.mask.png"


def overlay_file(folder: Path, photo: str) -> Path:
    """Where the photo with its mask drawn over it is written."""
    return folder / f"{Path(photo).stem}.overlay.jpg"


def refuse_same_stem(photos: Sequence[str], folder: Path) -> None:
    """Refuses photos whose masks would be one file.

    Raises:
      BadInput: two of them have the same name but for the folder and the ending, in any case of the letters.
    """
    seen: dict[str, str] = {}
    for photo in photos:
        first = seen.setdefault(Path(photo).stem.casefold(), photo)
        if first != photo:
            raise BadInput(
                f"the masks of {first} and {photo} would both be {mask_file(folder, photo)}; nothing was written: ask "
                "about them separately, with a folder for each"
            )


class MaskWriter:
    """Writes masks into a folder, which is made.

    A mask is a PNG whose indices are the ids of the classes and whose palette shows them; it is as large as the
    upright photo.
    """

    def __init__(self, folder: Path, labels: Sequence[str], rules: PhotoRules, overlays: bool):
        """
        Args:
          overlays: also writes each photo with its mask drawn over it.

        Raises:
          BadInput: the folder cannot be made.
        """
        self._folder, self._labels, self._rules, self._overlays = folder, labels, rules, overlays
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--masks {folder} cannot be made ({error.strerror}); choose another folder") from None

    def write(self, answer: Answer) -> tuple[Answer, dict[str, str]]:
        """Writes the mask of an answer, if it is one.

        Returns:
          the answer without what was written, and the files: `mask`, `overlay`.

        Raises:
          BadInput: the disk does not take it.
        """
        ids = answer.mask
        if ids is None:
            return answer, {}
        from components.explanation.pictures import jpeg, upright_photo
        from components.overlays.drawing import overlay, palette_png

        written = {mask_file(self._folder, answer.file): palette_png(ids, self._labels)}
        names = ["mask"]
        if self._overlays:
            drawn = overlay(upright_photo(answer.photo, self._rules.colour), ids, self._labels)
            written[overlay_file(self._folder, answer.file)] = jpeg(drawn)
            names.append("overlay")
        for file, content in written.items():
            try:
                file.write_bytes(content)
            except OSError as error:
                raise BadInput(f"{file} cannot be written ({error.strerror}); choose another --masks") from None
        return replace(answer, mask_png=b"", photo=b""), dict(zip(names, map(str, written), strict=True))
