"""What is counted of a run: each request's outcome and its two latencies, second by second. Pure.

The latency from the intended moment includes the time for which a request could not be sent; the
one from the sending does not. Where the two part, the load generator or a queue was in the way.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLES_MAX = 5_000_000
"""Latencies kept of one operation, 8 bytes each; of later ones only the count."""

RECENT = 2000
"""Latencies that a view of the run while it goes on is made from."""


@dataclass
class Latencies:
    """Of one operation, in milliseconds."""

    intended: array[float] = field(default_factory=lambda: array("f"))
    sent: array[float] = field(default_factory=lambda: array("f"))

    def add(self, intended_ms: float, sent_ms: float) -> None:
        """One more answer."""
        if len(self.sent) < SAMPLES_MAX:
            self.intended.append(intended_ms)
            self.sent.append(sent_ms)


def percentile(ordered: array[float], share: float) -> float | None:
    """The value that this share of a sorted array does not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[
        min(len(ordered) - 1, max(0, -(-int(share * 10_000) * len(ordered) // 10_000) - 1))
    ]


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


def quantiles(values: array[float]) -> dict[str, float | None]:
    """The usual ones, in milliseconds."""
    ordered = array("f", sorted(values))
    found = {name: percentile(ordered, share) for name, share in QUANTILES.items()}
    return {name: None if value is None else round(value, 2) for name, value in found.items()}


@dataclass
class Counts:
    """Of one operation: `ok` and `refused` are answers, `failed` and `unknown` are not.

    A refusal is a no that the scenario allows for; unknown is what got no answer, which may or
    may not have happened. `again`: tries beyond the first.
    """

    ok: int = 0
    refused: int = 0
    failed: int = 0
    unknown: int = 0
    again: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def total(self) -> int:
        """All that were asked."""
        return self.ok + self.refused + self.failed + self.unknown

    def add(self, other: Counts) -> None:
        """Count another's as one's own."""
        self.ok += other.ok
        self.refused += other.refused
        self.failed += other.failed
        self.unknown += other.unknown
        self.again += other.again
        self.latencies.intended.extend(other.latencies.intended)
        self.latencies.sent.extend(other.latencies.sent)


@dataclass
class Second:
    """What was answered in one second of the run, and its slowest answer."""

    good: int = 0
    bad: int = 0
    slowest_ms: float = 0.0


@dataclass
class Tally:
    """Everything counted of one run."""

    operations: dict[str, Counts] = field(default_factory=dict)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(operation, kind of error) → how often, tries that were mended by another try included."""
    seconds: list[Second] = field(default_factory=list)
    visits: int = 0
    turned_away: int = 0
    """Visitors for whom the generator had no room."""
    unfinished: int = 0
    """Visitors who were still inside when the run was ended."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def of(self, operation: str) -> Counts:
        """One operation's counts."""
        return self.operations.setdefault(operation, Counts())

    def end(self, operation: str, outcome: str, at_s: float, due_ms: float, sent_ms: float) -> None:
        """A request is over, `at_s` seconds into the run: `ok`, `refused`, `failed` or `unknown`."""
        counts = self.of(operation)
        setattr(counts, outcome, getattr(counts, outcome) + 1)
        second = self._second(at_s)
        if outcome in {"ok", "refused"}:
            counts.latencies.add(due_ms, sent_ms)
            self.recent.append(due_ms)
            second.good += 1
            second.slowest_ms = max(second.slowest_ms, due_ms)
        else:
            second.bad += 1

    def _second(self, at_s: float) -> Second:
        while len(self.seconds) <= max(0, int(at_s)):
            self.seconds.append(Second())
        return self.seconds[max(0, int(at_s))]

    def all(self, operations: Iterable[str] | None = None) -> Counts:
        """Several operations together; all when none is named."""
        found = Counts()
        for name in self.operations if operations is None else operations:
            found.add(self.operations[name])
        return found
