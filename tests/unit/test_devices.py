"""Batches over several devices."""

from __future__ import annotations

import math

import pytest

import components  # noqa: F401  (settings that TensorFlow reads on import)

# isort: split
from components.trainer.devices import even_batch_size


@pytest.mark.parametrize(
    ("examples", "batch_size", "replicas", "expected"),
    [(9, 4, 1, 4), (8, 4, 2, 4), (9, 4, 2, 3), (100, 32, 2, 32), (97, 32, 2, 31), (5, 4, 4, 4)],
)
def test_examples(examples, batch_size, replicas, expected):
    assert even_batch_size(examples, batch_size, replicas) == expected


@pytest.mark.parametrize("replicas", [2, 3, 4, 8])
def test_no_replica_goes_without_wherever_that_can_be(replicas):
    for examples in range(200, 300):
        size = even_batch_size(examples, 64, replicas)
        assert size <= 64
        for batch in (size, examples % size or size):
            part = math.ceil(batch / replicas)
            parts = [max(0, min(part, batch - i * part)) for i in range(replicas)]
            assert sum(parts) == batch
            assert min(parts) > 0, (examples, size, parts)
