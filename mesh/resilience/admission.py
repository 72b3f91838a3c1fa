"""Who may begin, who waits and who is refused: how a program with more to do than it can stays quick.

Under overload a queue helps nobody: it only makes every answer late. So a wait is bounded, and
shorter once the queue has not been empty for a while (the controlled delay of CoDel, in the form
of Maurer, "Fail at Scale", ACM Queue 13.8, 2015); whoever would not get in within that time is told
at once. What is spent on a refusal is missing for an answer: the earlier, the cheaper.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES_MAX = 64
"""Requests at work at a time: enough to fill the disk's flushes and a callee's connections."""

WAITING_MAX = 256

WAIT_S = 0.5
"""Longest wait for a place, and at most half of what is left of the deadline: the other half is
for the work."""

STANDING_S = 0.5
"""Where somebody has had to wait again and again for this long, with no such time in between in which
nobody had to, it is no burst, such as a restart leaves in the backlog, but overload…"""

STANDING_WAIT_S = 0.1
"""…and then this is the longest wait."""

DOOR_SHARE = 0.5
"""Who comes is let past the door only if the wait that is foretold is at most this share of the longest:
places become free in bursts, and whoever waits in vain has cost more than whoever is sent away."""

LAG_MAX_S = 0.05
"""The event loop's own delay beyond which there are too many at work, whatever the places say."""

LAG_INTERVAL_S = 0.2
"""The least delay seen in so long is what counts (CoDel): a single one may be anybody's hiccup."""

PLACES_MIN = 8
"""Fewer would not share a commit any more."""

LEAVES_MAX = 256
LEAVES_MIN = 8
"""Places that became free of late, from which the wait is foretold: they come in bursts, as a commit
answers many at once, and fewer tell nothing."""

LULL_S = 0.2
"""A burst may leave places free until the loop has seen to those who come: that is no end of a flood."""


class Ticket:
    """One who waits. `admit` is called when a place is theirs."""

    __slots__ = ("admit", "deadline_s", "gone", "until_s")

    def __init__(self, deadline_s: float, until_s: float) -> None:
        """Waits until `until_s` at most."""
        self.deadline_s = deadline_s
        self.until_s = until_s
        self.gone = False
        self.admit: Callable[[], None]

    def __lt__(self, other: Ticket) -> bool:
        """The oldest deadline first."""
        return self.deadline_s < other.deadline_s


class Figures(Struct, frozen=True):
    """Of admission now, and counts since the start."""

    places: int
    taken: int
    waiting: int
    admitted: int
    shed: int
    lag_ms: float


class Admission:
    """The places of one program. Every `enter` that succeeds is followed by one `leave`."""

    def __init__(
        self, places_max: int = PLACES_MAX, waiting_max: int = WAITING_MAX, wait_s: float = WAIT_S
    ) -> None:
        """All places are free."""
        self.places_max = self._places = places_max
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._queue: list[Ticket] = []
        self._waiting = 0
        self._pressed_since_s = self._pressed_s = -2 * STANDING_S
        self._leaves: deque[float] = deque(maxlen=LEAVES_MAX)
        self._full_s = -2 * LULL_S
        self._pace_s = 0.0  # of the last time that nothing was free: the next flood is known by it
        self._lag_s = self._lag_least_s = 0.0
        self._lag_since_s = 0.0
        self.taken = 0
        self.coming = 0
        """Let past the door and not yet at `enter`: many come in one round of an event loop."""
        self.admitted = 0
        self.shed = 0

    @property
    def busy(self) -> bool:
        """Whether no place is free."""
        return self.taken >= self._places

    @property
    def roomy(self) -> bool:
        """Whether one more would find a place at once, with all those who are coming."""
        return self.taken + self._waiting + self.coming < self._places

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def full(self, now_s: float) -> bool:
        """Whether a newcomer would not get in in time: to be refused before it is read."""
        return self._late(now_s, self.coming, self._patience_s(now_s) * DOOR_SHARE)

    def late(self, now_s: float) -> bool:
        """Whether one past the door would not: to be refused before more is spent on it.

        Those who are coming come after it.
        """
        return self._late(now_s, 0, self._patience_s(now_s))

    def enter(self, now_s: float, deadline_s: float) -> Ticket | bool:
        """Take a place (True), wait for one (a ticket) or be refused (False)."""
        if self.taken < self._places and not self._waiting:
            self.taken += 1
            self.admitted += 1
            if self.taken == self._places:
                self._filled(now_s)
            return True
        self._press(now_s)
        wait_s = min(self._patience_s(now_s), (deadline_s - now_s) / 2)
        if self._late(now_s, 0, wait_s):
            self.refuse(now_s)
            return False
        ticket = Ticket(deadline_s, now_s + wait_s)
        heappush(self._queue, ticket)
        self._waiting += 1
        return ticket

    def refuse(self, now_s: float) -> None:
        """One is sent away."""
        self._press(now_s)
        self.shed += 1

    def give_up(self, ticket: Ticket) -> None:
        """No place became free in time, or nobody waits any more. Idempotent."""
        if ticket.gone:
            return
        ticket.gone = True
        self._waiting -= 1
        self.shed += 1
        if len(self._queue) > 2 * self._waiting_max:
            self._queue = [each for each in self._queue if not each.gone]
            heapify(self._queue)

    def leave(self, now_s: float) -> None:
        """A place becomes free; those who wait get it, the oldest deadline first."""
        if self.taken >= self._places:
            self._full_s = now_s
        if now_s - self._full_s <= LULL_S:
            self._leaves.append(now_s)
        self.taken -= 1
        while self._waiting and self.taken < self._places:
            ticket = heappop(self._queue)
            if ticket.gone:
                continue
            ticket.gone = True
            self._waiting -= 1
            self.taken += 1
            self.admitted += 1
            ticket.admit()

    def lagged(self, now_s: float, lag_s: float) -> None:
        """The event loop came round `lag_s` late: fewer places while that goes on, then more."""
        self._lag_s = lag_s
        if now_s - self._lag_since_s > 2 * LAG_INTERVAL_S:  # nothing was seen for long
            self._lag_since_s, self._lag_least_s = now_s, lag_s
            return
        self._lag_least_s = min(self._lag_least_s, lag_s)
        if now_s - self._lag_since_s < LAG_INTERVAL_S:
            return
        if self._lag_least_s > LAG_MAX_S:
            self._places = max(min(PLACES_MIN, self.places_max), self._places * 3 // 4)
        else:
            self._places = min(self.places_max, self._places + 4)
        self._lag_since_s, self._lag_least_s = now_s, lag_s

    def figures(self) -> Figures:
        """What there is to see."""
        return Figures(
            places=self._places,
            taken=self.taken,
            waiting=self._waiting,
            admitted=self.admitted,
            shed=self.shed,
            lag_ms=round(self._lag_s * 1000, 1),
        )

    def _press(self, now_s: float) -> None:
        if now_s - self._pressed_s > STANDING_S:
            self._pressed_since_s = now_s
        self._pressed_s = now_s

    def _filled(self, now_s: float) -> None:
        """No place is free any more: what was seen before the last lull tells nothing of now."""
        if now_s - self._full_s > LULL_S:
            self._leaves.clear()
        self._full_s = now_s

    def _late(self, now_s: float, coming: int, wait_s: float) -> bool:
        """Whether one more would wait longer than that, as fast as places have become free of late."""
        waiting = self._waiting + coming
        ahead = self.taken + waiting - self._places
        if ahead < 0:
            return False
        seen = self.busy or now_s - self._full_s <= LULL_S
        if seen and len(self._leaves) >= LEAVES_MIN:
            self._pace_s = (now_s - self._leaves[0]) / len(self._leaves)
        return waiting >= self._waiting_max or (ahead + 1) * self._pace_s > wait_s

    def _patience_s(self, now_s: float) -> float:
        lasts = now_s - self._pressed_s <= STANDING_S
        standing = lasts and now_s - self._pressed_since_s > STANDING_S
        return min(STANDING_WAIT_S, self._wait_s) if standing else self._wait_s
