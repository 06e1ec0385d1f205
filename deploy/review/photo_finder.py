"""Pictures of photos by the content of their files: from the folder of photos, or else from a run's examples.

A photo whose mask is suspected is shown with its mask over it, both from the examples.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import io
import os
import threading
import traceback
from collections.abc import Callable, Sequence

import tensorflow as tf
from PIL import Image

from components.evaluator.stored_masks import png_ids
from components.example_gen import spans
from components.example_gen.conversion import read_photo
from components.example_gen.photo import PhotoRejected
from components.overlays import drawing
from components.report.thumbnails import open_small
from deploy.review.items import Item
from pipeline.config import Config
from schemas import features as f
from schemas.errors import BadInput
from schemas.findings import SUSPECTED_MASK

SIDE = 480  # pixels, of the longer side
_QUALITY = 80


class PhotoFinder:
    """Finds pictures. A file whose content is not the one that is asked for is never shown."""

    def __init__(
        self,
        config: Config,
        items: Sequence[Item],
        examples: Callable[[], Sequence[str]],
        mask_classes: Sequence[str] = (),
    ):
        """
        Args:
          examples: gives the folders of the run's examples; called once, and only if a file is not where it was, or a
            mask is to be drawn.
          mask_classes: classes of the pixels in the order of their ids.
        """
        self._config = config
        self._places = {item.content_hash: item.places for item in items}
        self._mask_classes = mask_classes
        self._with_mask = {
            item.content_hash for item in items if any(thing.kind == SUSPECTED_MASK for thing in item.found)
        }
        self._examples = examples
        self._lock = threading.Lock()
        self._of_examples: dict[str, bytes] | None = None
        self._folders = functools.lru_cache(None)(self._folders_of_span)

    def picture(self, content_hash: str) -> bytes | None:
        """A JPEG of at most `SIDE` pixels a side; None: the photo is not found, or it cannot be decoded."""
        if content_hash not in self._places:
            return None
        content = self._file(content_hash)
        if content is not None and content_hash not in self._with_mask:
            return self.small(content)
        with self._lock:  # one pass over the examples finds all that are missing
            if self._of_examples is None:
                self._of_examples = self._read_examples()
            found = self._of_examples.get(content_hash)
        return self.small(content) if found is None and content is not None else found

    def _file(self, content_hash: str) -> bytes | None:
        for dataset, span, path in self._places[content_hash]:
            folder = self._folders(span).get(dataset)
            if folder is None or "://" in folder or ".." in path.split("/"):
                continue
            file = os.path.join(folder, path)
            with contextlib.suppress(OSError, ValueError):  # the latter of names with a null byte
                if 0 < os.stat(file).st_size <= self._config.data.max_file_megabytes * 1_000_000:
                    with open(file, "rb") as opened:
                        content = opened.read()
                    if hashlib.sha256(content).hexdigest() == content_hash:
                        return content
        return None

    def _folders_of_span(self, span: str) -> dict[str, str]:
        """Data set -> folder."""
        sources = self._config.data.folders
        if not span:
            return {dataset: source for dataset, source in sources.items() if not source.startswith("tfds:")}
        number = datetime.date.fromisoformat(span) if "-" in span else int(span)
        marker = self._config.data.success_file
        try:
            return spans.resolve_sources(sources, number, success_file=marker, settle_seconds=0).folders
        except BadInput:  # it was withdrawn
            return {}

    def _read_examples(self) -> dict[str, bytes]:
        missing = {key for key in self._places if key in self._with_mask or self._file(key) is None}
        found: dict[str, bytes] = {}
        spec = {name: tf.io.FixedLenFeature([], tf.string) for name in (f.CONTENT_HASH, f.IMAGE)}
        spec[f.MASK] = tf.io.FixedLenFeature([], tf.string, "")
        try:
            for folder in self._examples():
                for file in sorted(tf.io.gfile.glob(os.path.join(folder, "Split-*", "*"))):
                    for record in tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else ""):
                        example = tf.io.parse_single_example(record, spec)
                        content_hash = example[f.CONTENT_HASH].numpy().decode()
                        if content_hash not in missing:
                            continue
                        mask = example[f.MASK].numpy() if content_hash in self._with_mask else b""
                        if small := self.small(example[f.IMAGE].numpy(), mask):
                            found[content_hash] = small
                            missing.discard(content_hash)
                        if not missing:
                            return found
        except (tf.errors.OpError, OSError, BadInput):  # they were cleaned away
            traceback.print_exc()
        return found

    def small(self, content: bytes, mask: bytes = b"") -> bytes | None:
        """The picture of a photo's file, with its mask (a PNG of ids) if there is one; None: it cannot be decoded."""
        try:
            picture = self._decoded(content) or self._decoded(read_photo(content, self._config.photo_rules).photo_bytes)
        except PhotoRejected:
            picture = None
        if picture is None:
            return None
        picture.thumbnail((SIDE, SIDE))
        if mask:
            picture = drawing.overlay(picture, png_ids(mask), self._mask_classes)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()

    def _decoded(self, content: bytes) -> Image.Image | None:
        """A photo in a format that needs no conversion, upright; None: it is none, or it is too large."""
        rules = self._config.photo_rules
        try:
            return open_small(content, rules.max_pixels, rules.colour, SIDE)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for damaged files
            return None
