"""How often something happened of late."""

from __future__ import annotations


class Window:
    """A count over the last seconds, in slots of one second each.

    The newest slot is still filling, so what is counted is between `seconds - 1` and `seconds`
    old at most. Nothing is done while nothing happens.
    """

    __slots__ = ("_newest", "_slots", "_total")

    def __init__(self, seconds: int) -> None:
        """Nothing has happened yet."""
        self._slots = [0] * seconds
        self._newest = 0
        self._total = 0

    def add(self, now_s: float) -> None:
        """It happened."""
        self._forget(now_s)
        self._slots[self._newest % len(self._slots)] += 1
        self._total += 1

    def count(self, now_s: float) -> int:
        """How often."""
        self._forget(now_s)
        return self._total

    def clear(self) -> None:
        """Forget everything."""
        self._slots = [0] * len(self._slots)
        self._total = 0

    def _forget(self, now_s: float) -> None:
        second = int(now_s)
        if second <= self._newest:
            return
        gone = min(second - self._newest, len(self._slots))
        for number in range(second - gone + 1, second + 1):
            place = number % len(self._slots)
            self._total -= self._slots[place]
            self._slots[place] = 0
        self._newest = second
