"""Keeps folded graphs in the cache folder: making one takes far longer than reading it.

Loading, cutting, checking and folding a backbone take seconds, and always come to the same graph.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from absl import logging
from tensorflow.core.framework import graph_pb2

from components.backbone.frozen_pass import FoldedGraph, FrozenPass
from components.backbone.registry import cache_folder
from components.sealed import seal, unseal
from components.whole_file import write_whole

# Each is as large as its backbone.
_MOST_KEPT = 4


def _folder() -> Path:
    return cache_folder() / "frozen-passes"


def read(key: str, image_size: int) -> tuple[FrozenPass, dict[str, Any]] | None:
    """What `write` kept under this key; None: nothing, or it is damaged."""
    file = _folder() / key[:16]
    try:
        content = unseal(file.read_bytes(), key)
        file.touch()  # the one that was used last goes last
    except OSError:
        return None
    if content is None:
        return None
    size = struct.unpack("<Q", content[:8])[0]
    facts = json.loads(content[8 : 8 + size])
    graph = FoldedGraph(
        graph_pb2.GraphDef.FromString(content[8 + size :]), facts.pop("images"), facts.pop("outputs"), several=False
    )
    return FrozenPass(graph.function(image_size), facts.pop("note"), graph), facts


def write(key: str, run: FrozenPass, facts: dict[str, Any]) -> None:
    """Keeps a pass that is folded and has no pyramid, with facts about it that JSON can hold.

    A cache that is full or absent is no error.
    """
    if run.graph is None or run.graph.several:
        return
    told = {**facts, "images": run.graph.images, "outputs": run.graph.outputs, "note": run.note}
    head = json.dumps(told).encode()
    content = struct.pack("<Q", len(head)) + head + run.graph.graph.SerializeToString(deterministic=True)
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        write_whole(_folder() / key[:16], seal(content, key))
        for old in sorted(_folder().iterdir(), key=lambda file: file.stat().st_mtime)[:-_MOST_KEPT]:
            old.unlink()
    except OSError as error:
        logging.warning("the frozen pass is not kept in %s: %s", _folder(), error)
