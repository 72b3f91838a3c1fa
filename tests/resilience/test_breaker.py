"""The breaker: whom it leaves alone, for how long, and that it always finds the way back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import clock
from mesh.resilience.breaker import PROBE_S, Breaker
from mesh.resilience.callee import Callee
from mesh.resilience.policy import BreakerPolicy

POLICY = BreakerPolicy()
SEEDS = st.integers(0, 2**32)


def fail(breaker: Breaker, times: int, now_s: float) -> None:
    for _ in range(times):
        breaker.admit(now_s)
        breaker.failed()


@settings(deadline=None)
@given(SEEDS, st.integers(1, 200))
def test_everything_goes_through_while_it_is_answered(seed, times):
    breaker = Breaker(POLICY, clock.seeded(seed))
    for number in range(times):
        now_s = 10 + number / 7
        assert breaker.admit(now_s)
        breaker.accepted(now_s)
        assert breaker.state(now_s) == "closed"


@settings(deadline=None)
@given(SEEDS, st.integers(0, POLICY.failing - 1))
def test_few_failures_hold_nothing_back(seed, failures):
    breaker = Breaker(POLICY, clock.seeded(seed))
    fail(breaker, failures, 10.0)
    assert breaker.state(10.0) == "closed"
    assert breaker.held_back(10.0) == 0


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(0.05, 1.0), st.integers(20, 100))
def test_callee_that_takes_a_share_is_left_about_twice_what_it_takes(seed, share, per_s):
    """Chance decides who is held back, so the bound is that of what was drawn, with room."""
    draw = clock.seeded(seed)
    breaker = Breaker(BreakerPolicy(recovered=10**9), clock.seeded(seed + 1))
    sent = taken = 0
    for number in range(per_s * 20):
        now_s = 10 + number / per_s
        if breaker.admit(now_s):
            sent += 1
            if draw() < share:
                taken += 1
                breaker.accepted(now_s)
            else:
                breaker.failed()
    assert sent <= 2.5 * POLICY.multiple * taken + 0.25 * per_s * 20


@settings(deadline=None)
@given(SEEDS, st.integers(1, 50), st.integers(20, 2000))
def test_mended_callee_is_asked_as_before_within_seconds(seed, per_s, failures):
    breaker = Breaker(POLICY, clock.seeded(seed))
    now_s = 10.0
    fail(breaker, failures, now_s)
    assert breaker.state(now_s) == "half-open"
    while breaker.state(now_s) != "closed":
        now_s += 1 / per_s
        if breaker.admit(now_s):
            breaker.accepted(now_s)
        assert now_s <= 10.0 + POLICY.recovered * (PROBE_S + 1 / per_s) + 1


@settings(deadline=None)
@given(SEEDS, st.lists(st.floats(0.0, 0.4), min_size=1, max_size=60))
def test_unreachable_callee_is_tried_once_a_second(seed, pauses):
    breaker, now_s = Breaker(POLICY, clock.seeded(seed)), 10.0
    for _ in range(POLICY.unreachable_max):
        assert breaker.state(now_s) == "closed"
        assert breaker.admit(now_s)
        breaker.unreachable(now_s)
    tried: list[float] = [now_s]
    for pause_s in pauses:
        now_s += pause_s
        assert breaker.state(now_s) == ("half-open" if now_s - tried[-1] >= 1.0 else "open")
        if breaker.admit(now_s):
            assert now_s - tried[-1] >= POLICY.open_s
            assert breaker.state(now_s) == "open"  # one probe, no more
            tried.append(now_s)
            breaker.unreachable(now_s)


def test_probe_that_is_answered_closes_at_once():
    breaker = Breaker(POLICY, clock.seeded(1))
    for _ in range(500):
        breaker.admit(10.0)
        breaker.unreachable(10.0)
    assert not breaker.admit(10.5)
    assert breaker.admit(11.0)
    breaker.accepted(11.0)
    assert breaker.state(11.0) == "closed"
    assert all(breaker.admit(11.0) for _ in range(POLICY.slack))


def test_probe_that_never_tells_is_followed_by_another():
    breaker = Breaker(POLICY, clock.seeded(1))
    for _ in range(POLICY.unreachable_max):
        breaker.admit(10.0)
        breaker.unreachable(10.0)
    assert breaker.admit(11.0)
    assert not breaker.admit(11.9)
    assert breaker.admit(12.0)


def test_same_chance_holds_the_same_calls_back():
    def admitted() -> list[bool]:
        breaker = Breaker(BreakerPolicy(failing=10**9), clock.seeded(7))
        fail(breaker, 40, 10.0)
        return [breaker.admit(10.0) for _ in range(200)]

    assert admitted() == admitted()
    assert 0 < sum(admitted()) < 200


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(5, 200), st.integers(5, 60))
def test_failing_callee_is_given_probes_alone_however_well_it_did_before(seed, per_s, seconds):
    breaker, now_s = Breaker(POLICY, clock.seeded(seed)), 10.0
    for _ in range(30 * per_s):
        now_s += 1 / per_s
        assert breaker.admit(now_s)
        breaker.accepted(now_s)
    sent, calls = 0, per_s * seconds
    for _ in range(calls):
        now_s += 1 / per_s
        if breaker.admit(now_s):
            sent += 1
            breaker.failed()
    assert sent <= POLICY.failing + seconds / PROBE_S + 1
    assert breaker.state(now_s) == "half-open"


def test_probe_that_is_answered_lets_the_next_call_through_at_once():
    breaker = Breaker(POLICY, clock.seeded(1))
    fail(breaker, 500, 10.0)
    assert not breaker.admit(10.5)
    for number in range(POLICY.recovered):
        now_s = 11.0 + number / 100
        assert breaker.admit(now_s)
        assert not breaker.admit(now_s) or number  # the probe goes alone
        breaker.accepted(now_s)
    assert breaker.state(now_s) == "closed"


def test_work_that_nobody_waits_for_finds_room_as_the_callee_does():
    breaker = Breaker(POLICY, clock.seeded(1))
    assert breaker.room(10.0, 16) == 16
    fail(breaker, POLICY.failing, 10.0)
    assert (breaker.room(10.5, 16), breaker.room(11.0, 16)) == (0, 1)
    assert breaker.admit(11.0)
    assert breaker.room(11.0, 16) == 0, "another one probes"
    for _ in range(POLICY.recovered):
        breaker.accepted(11.1)
    assert breaker.room(11.1, 16) == 16
    for _ in range(POLICY.unreachable_max):
        breaker.admit(12.0)
        breaker.unreachable(12.0)
    assert (breaker.room(12.9, 16), breaker.room(13.0, 16)) == (0, 1)


def test_past_is_forgotten_after_the_window():
    breaker = Breaker(POLICY, clock.seeded(1))
    for number in range(600):
        breaker.admit(10.0)
        if number % POLICY.failing:
            breaker.failed()
        else:
            breaker.accepted(10.0)
    assert breaker.held_back(10.0) > 0.7
    assert breaker.state(10.0 + POLICY.window_s) == "closed"


def test_calls_without_an_answer_yet_are_held_against_nobody():
    """Of many that begin at once, in a quiet system or after a restart, none has failed."""
    callee = Callee(POLICY, lambda: 0.0)
    assert all(callee.begin(10.0) for _ in range(64))
    for _ in range(64):
        callee.breaker.accepted(10.0)
        callee.end(failed=False)
    assert callee.begin(10.0)


def test_calls_that_got_no_answer_count_once_they_are_over():
    callee = Callee(POLICY, lambda: 0.0)
    assert all(callee.begin(10.0) for _ in range(64))
    for _ in range(64):
        callee.end(failed=True)
    assert not callee.begin(10.0)
