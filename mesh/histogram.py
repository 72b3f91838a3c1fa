"""Distributions of durations: log-linear buckets, so that any two can be added up; pure.

As in HdrHistogram: each power of two is cut into SUB equal parts, so a value is known to within
1 part in 2 * SUB of itself, from a microsecond to days, and only buckets that were hit take room.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUB_BITS = 5
SUB = 1 << SUB_BITS
"""Parts of a power of two."""

ERROR = 1 / (2 * SUB)
"""A quantile is off by at most this share of itself, plus half a microsecond."""

VALUE_MAX = (1 << 42) - 1
"""Seven weeks in microseconds; what is more counts as this."""

_LINEAR = 2 * SUB
_US = 1_000_000
_MS = 1_000


def bucket(value: int) -> int:
    """The number of the bucket for a value; values below 2 * SUB have one each."""
    if value < _LINEAR:
        return max(0, value)
    value = min(value, VALUE_MAX)
    shift = value.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (value >> shift)


def bounds(number: int) -> tuple[int, int]:
    """The lowest value of a bucket and the lowest beyond it."""
    if number < _LINEAR:
        return number, number + 1
    shift = (number >> SUB_BITS) - 1
    low = (SUB + (number & (SUB - 1))) << shift
    return low, low + (1 << shift)


class Histogram:
    """Counts by bucket. Values are whole numbers from 0, microseconds by habit."""

    __slots__ = ("counts", "total")

    def __init__(self, counts: Mapping[int, int] | None = None, total: int = 0) -> None:
        """`counts` by bucket number, and the sum of the values."""
        self.counts = dict(counts or {})
        self.total = total

    def add(self, value: int) -> None:
        """One value."""
        self.put(bucket(value), value)

    def put(self, number: int, value: int) -> None:
        """The same for a value whose bucket is known."""
        self.counts[number] = self.counts.get(number, 0) + 1
        self.total += value

    def merge(self, other: Histogram) -> None:
        """All the values of another one."""
        counts = self.counts
        for number, count in other.counts.items():
            counts[number] = counts.get(number, 0) + count
        self.total += other.total

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """The value that `share` (0 to 1) of all do not exceed, the middle of its bucket; or None."""
        left = max(1.0, share * self.count)
        for number in sorted(self.counts):
            left -= self.counts[number]
            if left <= 0:
                low, beyond = bounds(number)
                return (low + beyond - 1) / 2
        return None

    def below(self, limit: int) -> int:
        """How many values are less than `limit`, exactly so if it is where a bucket begins."""
        last = bucket(limit)
        return sum(count for number, count in self.counts.items() if number < last)


def merged(parts: Iterable[Histogram]) -> Histogram:
    """All values together."""
    whole = Histogram()
    for part in parts:
        whole.merge(part)
    return whole


class Lately(NamedTuple):
    """Rate, median, 99th percentile and share of failures; all but the rate None of nothing."""

    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    error_percent: float | None


class Window:
    """What happened in the last seconds: how often, how long it took, how often it failed.

    Whoever counts the seconds calls `turn`; adding costs half a microsecond.
    """

    __slots__ = ("_past", "_seconds", "failures", "now")

    def __init__(self, seconds: int) -> None:
        """Nothing happened yet."""
        self._seconds = seconds
        self._past: deque[tuple[Histogram, int]] = deque(maxlen=seconds)
        self.now = Histogram()
        self.failures = 0

    def add(self, took_s: float, *, failed: bool = False) -> None:
        """It happened."""
        self.now.add(int(took_s * _US))
        self.failures += failed

    def turn(self) -> int:
        """A second has passed; returns how often it happened in it."""
        past = self.now
        self._past.append((past, self.failures))
        self.now, self.failures = Histogram(), 0
        return past.count

    def figures(self) -> Lately:
        """What happened in the seconds that have passed."""
        whole = merged(part for part, _ in self._past)
        count = whole.count
        if not count:
            return Lately(0.0, None, None, None)
        failures = sum(failed for _, failed in self._past)
        return Lately(
            round(count / len(self._past), 3),
            _ms(whole.quantile(0.5)),
            _ms(whole.quantile(0.99)),
            round(100 * failures / count, 3),
        )


def _ms(value_us: float | None) -> float | None:
    return None if value_us is None else round(value_us / _MS, 3)
