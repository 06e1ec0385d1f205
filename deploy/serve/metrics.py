"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one server, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, version: Callable[[], int], accepted: Callable[[], int]):
        """
        Args:
          version: gives the version that answers now.
          accepted: gives how many photos are accepted and not yet answered.
        """
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "warmstart_requests", "Requests, by address and HTTP status.", ["address", "status"], registry=registry
        )
        self._seconds = Histogram(
            "warmstart_request_seconds", "Until a request was answered.", ["address"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._photos = Counter(
            "warmstart_photos", "Photos: answered, abstained (answered too), or rejected.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self._batches = Histogram(
            "warmstart_batch_photos", "Photos in one call of the model.", buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )  # fmt: skip
        Gauge("warmstart_waiting_photos", "Photos accepted and not yet answered.", registry=registry).set_function(
            accepted
        )
        Gauge("warmstart_model_version", "The version that answers.", registry=registry).set_function(version)
        ProcessCollector(registry=registry)

    @contextlib.contextmanager
    def request(self, address: str) -> Iterator[Callable[[int], None]]:
        """Times a request; gives a function that is told its status, once."""
        start = time.perf_counter()
        yield lambda status: self._requests.labels(address, str(status)).inc()
        self._seconds.labels(address).observe(time.perf_counter() - start)

    def batch(self, photos: int) -> None:
        """Counts a call of the model."""
        self._batches.observe(photos)

    def answered(self, photos: int, abstained: int) -> None:
        """Counts photos that were answered, and those of them on which the model abstained."""
        self._photos.labels("answered").inc(photos)
        self._photos.labels("abstained").inc(abstained)

    def rejected(self, photos: int) -> None:
        """Counts photos that were not answered because of what they are."""
        self._photos.labels("rejected").inc(photos)

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
