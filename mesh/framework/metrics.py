"""What a service counts, in Prometheus' text format at `/metrics`.

Labels are names of operations and statuses, never ids: their number is bounded by the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Bucket bounds of a request's duration."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry a process."""

    def __init__(self) -> None:
        """Children of labelled metrics are kept, since finding them costs more than counting."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mesh_requests", "Requests answered", ["operation", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "mesh_request_seconds",
            "Time to answer",
            ["operation"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._counters: dict[tuple[str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def request(self, operation: str, status: int, seconds: float) -> None:
        """One request was answered."""
        counter = self._counters.get((operation, status))
        if counter is None:
            counter = self._requests.labels(operation, str(status))
            self._counters[operation, status] = counter
        counter.inc()
        histogram = self._histograms.get(operation)
        if histogram is None:
            histogram = self._histograms[operation] = self._seconds.labels(operation)
        histogram.observe(seconds)

    def gauge(self, name: str, sentence: str, value: Callable[[], float]) -> None:
        """A figure that is read when somebody asks."""
        Gauge(f"mesh_{name}", sentence, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """The exposition, UTF-8."""
        return generate_latest(self._registry)
