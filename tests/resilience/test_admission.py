"""Admission, whatever comes when: bounds hold, nobody is forgotten, refusals come early."""

from __future__ import annotations

import itertools
import random
from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.resilience.admission import (
    DOOR_SHARE,
    LAG_INTERVAL_S,
    LAG_MAX_S,
    PLACES_MAX,
    PLACES_MIN,
    STANDING_S,
    STANDING_WAIT_S,
    WAIT_S,
    WAITING_MAX,
    Admission,
    Ticket,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class Hall:
    """An admission, and those who work, wait and were refused."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.working = 0
        self.waiting: list[Ticket] = []
        self.entered: list[Ticket] = []
        self.refused = 0

    def come(self, now_s: float, left_s: float = 2.0) -> Ticket | bool:
        found = self.admission.enter(now_s, now_s + left_s)
        if isinstance(found, Ticket):
            found.admit = lambda: self._admitted(found)
            self.waiting.append(found)
        elif found:
            self.working += 1
        else:
            self.refused += 1
        return found

    def late(self, now_s: float) -> None:
        """As the timers of those who wait do."""
        for ticket in [each for each in self.waiting if each.until_s <= now_s]:
            self.waiting.remove(ticket)
            self.admission.give_up(ticket)
            self.refused += 1

    def leave(self, now_s: float) -> None:
        self.working -= 1
        self.admission.leave(now_s)

    def _admitted(self, ticket: Ticket) -> None:
        self.waiting.remove(ticket)
        self.entered.append(ticket)
        self.working += 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "leave", "lag"]),
        st.floats(0, 0.2),
        st.floats(0.005, 2.0),
    ),
    max_size=300,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 5), st.integers(0, 5))
def test_bounds_hold_and_nobody_is_forgotten(steps, places, waiting):
    hall, now_s, come = Hall(Admission(places, waiting)), 100.0, 0
    for what, pause_s, left_s in steps:
        now_s += pause_s
        hall.late(now_s)
        if what == "come":
            come += 1
            ticket = hall.come(now_s, left_s)
            if isinstance(ticket, Ticket):
                assert ticket.until_s - now_s <= min(WAIT_S, left_s / 2) + 1e-9
        elif what == "leave" and hall.working:
            hall.leave(now_s)
        elif what == "lag":
            hall.admission.lagged(now_s, left_s)
        seen = hall.admission.figures()
        assert (seen.taken, seen.waiting) == (hall.working, len(hall.waiting))
        assert seen.taken <= places
        assert seen.waiting <= waiting
        assert seen.shed == hall.refused
        assert come == seen.admitted + seen.waiting + seen.shed
        assert not (seen.waiting and not hall.working)  # a place is never kept from who waits


@settings(deadline=None)
@given(st.lists(st.floats(0.6, 2.0), min_size=2, max_size=40, unique=True))
def test_oldest_deadline_gets_in_first(lefts):
    hall = Hall(Admission(places_max=1))
    hall.come(100.0)
    for left_s in lefts:
        hall.come(100.0, left_s)
    for _ in lefts:
        hall.leave(100.0)
    assert [ticket.deadline_s for ticket in hall.entered] == sorted(100.0 + each for each in lefts)


def overloaded(
    per_s: float,
    times: float,
    seconds: float,
    rounds_s: Iterable[float],
    burst: int = 1,
) -> tuple[Hall, list[float], int, float]:
    """So many times the capacity for so long, seen by an event loop with turns of these lengths.

    Places become free `burst` at a time. The waits of those refused inside, how many were refused
    at the door, what was done a second.
    """
    turns_s = itertools.cycle(rounds_s)
    hall = Hall(Admission())
    admission = hall.admission
    leaves: deque[float] = deque()
    inside: list[float] = []
    at_door = done = come = fed = 0
    now_s = free_s = 100.0
    while now_s < 100.0 + seconds:
        now_s += next(turns_s)
        for _ in range(fed):
            admission.coming -= 1
            if admission.late(now_s):
                admission.refuse(now_s)
                hall.refused += 1
                inside.append(0.0)
            elif hall.come(now_s) is False:
                inside.append(0.0)
        while len(leaves) >= burst and leaves[burst - 1] <= now_s:
            for _ in range(burst):
                leaves.popleft()
                hall.leave(now_s)
            done += burst
        late = [each for each in hall.waiting if each.until_s <= now_s]
        hall.late(now_s)
        inside += [now_s - (each.deadline_s - 2.0) for each in late]
        fed = 0
        while come < (now_s - 100.0) * per_s * times:
            come += 1
            if admission.full(now_s):
                admission.refuse(now_s)
                at_door += 1
            else:
                admission.coming += 1
                fed += 1
        while len(leaves) < hall.working:
            free_s = max(free_s, now_s) + 1 / per_s
            leaves.append(free_s)
    return hall, inside, at_door, done / seconds


@pytest.mark.parametrize("round_s", [0.001, 0.01, 0.05])
def test_four_times_the_capacity_keeps_the_work_and_refuses_at_the_door(round_s):
    hall, inside, at_door, per_s = overloaded(300.0, 4.0, 20.0, [round_s])
    assert per_s > 0.97 * 300
    assert len(inside) < 0.01 * at_door
    assert hall.admission.waiting <= 2 * STANDING_WAIT_S * 300
    assert max(inside, default=0.0) <= WAIT_S + round_s


@pytest.mark.parametrize("burst", [1, 5, 16])
def test_bursts_and_long_turns_let_nobody_in_who_will_be_refused_inside(burst):
    chance = random.Random(1)
    rounds_s = [chance.uniform(0.005, 0.06) for _ in range(997)]
    _, inside, at_door, per_s = overloaded(300.0, 4.0, 20.0, rounds_s, burst)
    assert per_s > 0.97 * 300
    assert len(inside) < 0.01 * at_door
    assert sum(wait_s > STANDING_WAIT_S + 0.06 for wait_s in inside) < 0.001 * at_door


def test_those_behind_it_keep_nobody_out_who_is_past_the_door():
    admission = Admission(places_max=8)
    for number in range(80):
        admission.enter(100.0 + number / 10, 110.0)
        if admission.taken == 8:
            admission.leave(100.0 + number / 10)
    admission.coming = 100
    assert admission.full(108.0)
    assert not admission.late(108.0)


def test_next_flood_is_known_by_the_pace_of_the_last_one():
    hall, *_ = overloaded(300.0, 4.0, 5.0, [0.01])
    now_s = 106.0
    hall.late(now_s)
    while hall.working:
        hall.leave(now_s)
    for _ in range(PLACES_MAX + WAITING_MAX):
        if not hall.admission.full(now_s + 10):
            hall.come(now_s + 10)
    assert hall.working == PLACES_MAX
    assert 0.8 < len(hall.waiting) / (300.0 * WAIT_S * DOOR_SHARE) < 1.2


def test_short_burst_is_taken_whole():
    hall = Hall(Admission())
    for _ in range(PLACES_MAX + WAITING_MAX):
        hall.come(100.0)
    assert hall.refused == 0
    assert hall.come(100.0) is False
    assert hall.admission.full(100.0)


def test_queue_that_stands_is_short():
    hall = Hall(Admission(places_max=1))
    hall.come(100.0)
    first, _, later = (hall.come(100.0 + share * STANDING_S) for share in (0.0, 0.6, 1.1))
    assert first.until_s == 100.0 + WAIT_S
    assert abs(later.until_s - (100.0 + 1.1 * STANDING_S + STANDING_WAIT_S)) < 1e-9


def test_queue_that_empties_for_a_moment_still_stands():
    hall = Hall(Admission(places_max=1))
    for number in range(20):
        now_s = 100.0 + number * STANDING_S / 5
        hall.come(now_s)
        waits = hall.come(now_s)
        hall.leave(now_s)
        hall.leave(now_s)
    assert abs(waits.until_s - now_s - STANDING_WAIT_S) < 1e-9
    later_s = now_s + 1.1 * STANDING_S
    hall.come(later_s)
    assert abs(hall.come(later_s).until_s - later_s - WAIT_S) < 1e-9


def test_who_is_sent_away_at_the_door_keeps_the_queue_short():
    hall = Hall(Admission(places_max=1))
    for number in range(20):
        hall.admission.refuse(100.0 + number * STANDING_S / 5)
    now_s = 100.0 + 19 * STANDING_S / 5
    hall.come(now_s)
    assert abs(hall.come(now_s).until_s - now_s - STANDING_WAIT_S) < 1e-9


def test_those_on_their_way_in_are_reckoned_with_at_the_door():
    admission = Admission(places_max=8)
    for number in range(80):
        admission.enter(100.0 + number / 10, 110.0)
        if admission.taken == 8:
            admission.leave(100.0 + number / 10)
    assert not admission.full(108.0)
    admission.coming = 8
    assert admission.full(108.0)


def test_late_event_loop_takes_places_away_and_gives_them_back():
    admission, now_s = Admission(), 100.0

    def seconds(count: float, lag_s: float) -> int:
        nonlocal now_s
        for _ in range(int(count / 0.05)):
            now_s += 0.05
            admission.lagged(now_s, lag_s)
        return admission.figures().places

    assert seconds(5, LAG_MAX_S / 2) == PLACES_MAX
    assert seconds(LAG_INTERVAL_S * 2 + 0.1, LAG_MAX_S * 2) < PLACES_MAX
    assert seconds(10, LAG_MAX_S * 2) == PLACES_MIN
    assert seconds(10, LAG_MAX_S / 2) == PLACES_MAX


def test_single_hiccup_takes_no_place_away():
    admission = Admission()
    for number in range(400):
        admission.lagged(100 + number * 0.05, 0.3 if number % 3 == 0 else 0.001)
    assert admission.figures().places == PLACES_MAX
