"""Whether a callee is to be asked at all: a caller leaves alone what does not answer.

Three rules. *Adaptive throttling* (Site Reliability Engineering, chapter 21, "client-side
throttling"): of the calls of the last half minute the callee took `accepts`; what is over K times
that is refused here, by chance, before it costs the callee anything. *Failing*: a callee that has
given nothing but bad answers for a while gets probes alone. *Open*: a callee to which no connection
can be made is not tried for a second, then by one probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mesh.resilience.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.resilience.policy import BreakerPolicy

State = Literal["closed", "half-open", "open"]

PROBE_S = 1.0
"""While calls are held back, one goes through this often whatever chance says: a caller that
asks rarely must find out too."""


class Breaker:
    """What one caller knows of one callee. Chance is drawn from `draw`, 0 to 1."""

    def __init__(self, policy: BreakerPolicy, draw: Callable[[], float]) -> None:
        """All is well until it is seen not to be."""
        self._policy = policy
        self._draw = draw
        self._requests = Window(policy.window_s)
        self._accepts = Window(policy.window_s)
        self._good_in_a_row = 0
        self._bad_in_a_row = 0
        self._unreachable = 0
        self._rests_until_s = 0.0
        self._passed_s = 0.0

    def admit(self, now_s: float, under_way: int = 0) -> bool:
        """A call is wanted: whether to make it. It counts before it is made, and if it is not.

        `under_way`: other calls that have no answer yet, of which nothing is known, good or bad.
        """
        self._requests.add(now_s)
        if self._good_in_a_row >= self._policy.recovered:
            self._passed_s = now_s
            return True
        if self._unreachable >= self._policy.unreachable_max:
            if now_s < self._rests_until_s:
                return False
            self._rests_until_s = now_s + self._policy.open_s  # another probe if this never tells
            return True
        share = self.held_back(now_s, under_way)
        if share > 0 and now_s - self._passed_s < PROBE_S and self._draw() < share:
            return False
        self._passed_s = now_s
        return True

    def room(self, now_s: float, most: int) -> int:
        """How many calls that nobody waits for may be begun now: `most`, one as a probe, or none."""
        if self._good_in_a_row >= self._policy.recovered:
            return most
        if self._unreachable >= self._policy.unreachable_max:
            return 1 if now_s >= self._rests_until_s else 0
        if self.held_back(now_s) == 0:
            return most
        return 1 if now_s - self._passed_s >= PROBE_S else 0

    def held_back(self, now_s: float, under_way: int = 0) -> float:
        """The share of calls that are refused here, 0 to 1; of those `under_way` nothing is known."""
        if self._bad_in_a_row >= self._policy.failing:
            return 1.0
        requests = self._requests.count(now_s)
        over = (
            requests
            - under_way
            - self._policy.multiple * self._accepts.count(now_s)
            - self._policy.slack
        )
        return max(0.0, over / (requests + 1))

    def accepted(self, now_s: float) -> None:
        """The callee did what it is there for, be it to refuse."""
        self._accepts.add(now_s)
        self._good_in_a_row += 1
        self._bad_in_a_row = 0
        self._passed_s = now_s - PROBE_S  # the next one need not wait to find out more
        policy = self._policy
        back = self._unreachable >= policy.unreachable_max
        self._unreachable = 0
        recovered = self._good_in_a_row >= policy.recovered and (
            self._requests.total > policy.multiple * self._accepts.total + policy.slack
        )  # as far as can be told without counting
        if back or (recovered and self.held_back(now_s) > 0):
            self._requests.clear()
            self._accepts.clear()

    def failed(self) -> None:
        """It took the connection and could not answer, or did not in time."""
        self._bad()
        self._unreachable = 0

    def unreachable(self, now_s: float) -> None:
        """No connection could be made."""
        self._bad()
        self._unreachable += 1
        if self._unreachable >= self._policy.unreachable_max:
            self._rests_until_s = now_s + self._policy.open_s

    def _bad(self) -> None:
        self._good_in_a_row = 0
        self._bad_in_a_row += 1
        if self._bad_in_a_row == self._policy.failing:
            self._accepts.clear()

    def state(self, now_s: float) -> State:
        """Closed: all calls go through; open: none; half-open: some do, to find out."""
        if self._unreachable >= self._policy.unreachable_max:
            return "open" if now_s < self._rests_until_s else "half-open"
        return "half-open" if self.held_back(now_s) > 0 else "closed"
