"""What a service counts, in Prometheus' text format at `/metrics`, and over the last seconds.

Labels are names of operations and statuses, never ids: their number is bounded by the table.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from mesh.figures import WINDOW_S
from mesh.histogram import Histogram, Window, bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

BOUNDS_US = tuple(1 << bits for bits in range(8, 24))
"""Of the buckets of a request's duration, 256 µs to 8.4 s: each where one of ours begins, so that
their counts are exact and may be added up over services."""

FAILED_FROM = 500
"""Statuses from here on are our failures."""

REFUSED = 503

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_US_PER_S = 1_000_000


class Metrics(Collector):
    """One registry a process."""

    def __init__(self) -> None:
        """Nothing was counted yet."""
        self._window = Window(WINDOW_S)
        self._refused = 0
        """At the door, and not yet among the others."""
        self._answered: dict[tuple[str, int], int] = defaultdict(int)
        self._took: dict[str, Histogram] = defaultdict(Histogram)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def request(self, operation: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._answered[operation, status] += 1
        took_us = int(seconds * _US_PER_S)
        number = bucket(took_us)
        self._took[operation].put(number, took_us)
        self._window.now.put(number, took_us)
        if status >= FAILED_FROM:
            self._window.failures += 1

    def refused(self) -> None:
        """One request was answered with 503 at the door, in no time."""
        self._refused += 1

    @property
    def window(self) -> Window:
        """Of all requests."""
        self._add_refused()
        return self._window

    def _add_refused(self) -> None:
        count, self._refused = self._refused, 0
        if count:
            none = Histogram({0: count})
            self._answered["other", REFUSED] += count
            self._took["other"].merge(none)
            self._window.now.merge(none)
            self._window.failures += count

    def gauge(self, name: str, sentence: str, value: Callable[[], float]) -> None:
        """A figure that is read when somebody asks."""
        Gauge(f"mesh_{name}", sentence, registry=self._registry).set_function(value)

    def also(self, others: Collector) -> None:
        """Show what these have counted, too."""
        self._registry.register(others)

    def collect(self) -> Iterator[Metric]:
        """The requests, as the registry wants them."""
        self._add_refused()
        answered = CounterMetricFamily(
            "mesh_requests", "Requests answered", labels=["operation", "status"]
        )
        for (operation, status), count in self._answered.items():
            answered.add_metric([operation, str(status)], count)
        yield answered
        took = HistogramMetricFamily("mesh_request_seconds", "Time to answer", labels=["operation"])
        for operation, found in self._took.items():
            buckets = [(str(bound / _US_PER_S), float(found.below(bound))) for bound in BOUNDS_US]
            buckets.append(("+Inf", float(found.count)))
            took.add_metric([operation], buckets, found.total / _US_PER_S)
        yield took

    def text(self) -> bytes:
        """The exposition, UTF-8."""
        return generate_latest(self._registry)
