"""How many retries a caller may afford: few enough that a dead callee is not asked twice as often.

The budget is Finagle's: calls and time earn tokens that expire, a retry spends one.
"""

from __future__ import annotations

from mesh.resilience.window import Window

SHARE = 0.1
"""Tokens that a call earns."""

PER_S = 1
"""Tokens that time earns, so that a quiet caller may retry too."""

EXPIRES_S = 10
"""An hour of good answers must not pay for a minute of retries."""


class RetryBudget:
    """The retries of one caller towards one callee."""

    def __init__(self) -> None:
        """As after EXPIRES_S of silence."""
        self._calls = Window(EXPIRES_S)
        self._retries = Window(EXPIRES_S)
        self.earn = self._calls.add
        """A call is made."""

    def left(self, now_s: float) -> float:
        """Tokens to spend; never negative beyond what has expired since it was spent."""
        earned = PER_S * EXPIRES_S + SHARE * self._calls.count(now_s)
        return earned - self._retries.count(now_s)

    def spend(self, now_s: float) -> bool:
        """Pay for one retry; False when it cannot be afforded."""
        if self.left(now_s) < 1:
            return False
        self._retries.add(now_s)
        return True
