"""One callee as its caller sees it: what was asked of it, how it went, whether to ask on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.resilience.breaker import Breaker, State
from mesh.resilience.budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.resilience.policy import BreakerPolicy


STATES: tuple[State, ...] = ("closed", "half-open", "open")
"""From well to worse."""


class Figures(Struct, frozen=True):
    """What a caller has counted of one callee since it started. `in_flight` and `state` are now."""

    calls: int
    errors: int
    """Calls without an answer of use: away, overloaded, too late, held back."""
    attempts: int
    """Requests sent; less than the calls where the breaker held some back."""
    retries: int
    held_back: int
    in_flight: int
    state: State

    def plus(self, other: Figures) -> Figures:
        """Both together; the state is the worse of the two."""
        return Figures(
            calls=self.calls + other.calls,
            errors=self.errors + other.errors,
            attempts=self.attempts + other.attempts,
            retries=self.retries + other.retries,
            held_back=self.held_back + other.held_back,
            in_flight=self.in_flight + other.in_flight,
            state=max(self.state, other.state, key=STATES.index),
        )


class Callee:
    """Decides for one caller, and counts. Every call is `begin`, `attempt`s, one `end`."""

    def __init__(self, policy: BreakerPolicy, draw: Callable[[], float]) -> None:
        """Nothing was asked yet."""
        self.breaker = Breaker(policy, draw)
        self.budget = RetryBudget()
        self.calls = self.errors = self.attempts = self.retries = self.held_back = 0
        self.in_flight = 0

    def begin(self, now_s: float) -> bool:
        """A call is wanted; False when the callee is to be left alone."""
        self.calls += 1
        if not self.breaker.admit(now_s, self.in_flight):
            self.held_back += 1
            self.errors += 1
            return False
        self.budget.earn(now_s)
        self.in_flight += 1
        return True

    def retry(self, now_s: float) -> bool:
        """One more attempt is wanted: whether the budget and the breaker allow it."""
        if not self.budget.spend(now_s) or not self.breaker.admit(now_s, self.in_flight - 1):
            return False
        self.retries += 1
        return True

    def end(self, *, failed: bool) -> None:
        """The call is over."""
        self.in_flight -= 1
        self.errors += failed

    def figures(self, now_s: float) -> Figures:
        """What there is to see."""
        return Figures(
            calls=self.calls,
            errors=self.errors,
            attempts=self.attempts,
            retries=self.retries,
            held_back=self.held_back,
            in_flight=self.in_flight,
            state=self.breaker.state(now_s),
        )
