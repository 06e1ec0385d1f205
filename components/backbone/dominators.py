"""The tensors of a module that every path from the images to the vectors passes through.

Such a tensor is a dominator of the vectors (https://en.wikipedia.org/wiki/Dominator_(graph_theory)): all that the
module knows about the images goes through it, so the graph can be taken apart there.
"""

from __future__ import annotations

from collections import Counter

from components.backbone.flat_graph import FlatGraph, data_inputs, node_of

# What comes out of these tells no more than what went in, and may be larger.
_ADDS_NOTHING = ("Identity", "Snapshot", "Pad", "PadV2", "MirrorPad")


def from_images(flat: FlatGraph) -> set[str]:
    """The nodes that depend on the images, which are among them."""
    found = {node_of(flat.images)}
    for name, node in flat.nodes.items():
        if any(node_of(tensor) in found for tensor in data_inputs(node)):
            found.add(name)
    return found


def dominators(flat: FlatGraph) -> list[str]:
    """All dominators, from the images to the vectors, which are not among them."""
    dependent = from_images(flat)

    def on_the_way(name: str) -> set[str]:
        return {tensor for tensor in data_inputs(flat.nodes[name]) if node_of(tensor) in dependent}

    consumers = Counter(tensor for name in dependent for tensor in on_the_way(name))
    waiting: set[str] = set()  # tensors that later nodes consume: where it is one alone, all paths pass through it
    found: list[str] = []
    for name in flat.nodes:
        if name not in dependent:
            continue
        for tensor in on_the_way(name):
            consumers[tensor] -= 1
            if not consumers[tensor]:
                waiting.discard(tensor)
        waiting |= {tensor for tensor in consumers if node_of(tensor) == name}
        if len(waiting) == 1:
            found += waiting
    return found


def where_it_is_made(flat: FlatGraph, tensor: str) -> str:
    """The tensor that `tensor` is a copy or a padded copy of."""
    while flat.nodes[node_of(tensor)].op in _ADDS_NOTHING:
        tensor = data_inputs(flat.nodes[node_of(tensor)])[0]
    return tensor
