"""How often something happened of late."""

from __future__ import annotations


class Window:
    """A count over the last seconds, in slots of one second each.

    The newest slot is still filling, so what is counted is between `seconds - 1` and `seconds`
    old at most. Nothing is done while nothing happens.
    """

    __slots__ = ("_newest", "_slots", "total")

    def __init__(self, seconds: int) -> None:
        """Nothing has happened yet."""
        self._slots = [0] * seconds
        self._newest = 0
        self.total = 0
        """At the last look: no less than now, if nothing has happened since."""

    def add(self, now_s: float) -> None:
        """It happened."""
        if now_s >= self._newest + 1:
            self._forget(int(now_s))
        self._slots[self._newest % len(self._slots)] += 1
        self.total += 1

    def count(self, now_s: float) -> int:
        """How often."""
        if now_s >= self._newest + 1:
            self._forget(int(now_s))
        return self.total

    def clear(self) -> None:
        """Forget everything."""
        self._slots = [0] * len(self._slots)
        self.total = 0

    def _forget(self, second: int) -> None:
        gone = min(second - self._newest, len(self._slots))
        for number in range(second - gone + 1, second + 1):
            place = number % len(self._slots)
            self.total -= self._slots[place]
            self._slots[place] = 0
        self._newest = second
