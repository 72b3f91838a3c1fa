"""The breaker: whom it leaves alone, for how long, and that it always finds the way back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import clock
from mesh.resilience.breaker import PROBE_S, Breaker
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
@given(SEEDS, st.integers(0, POLICY.slack))
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
        breaker = Breaker(POLICY, clock.seeded(7))
        fail(breaker, 40, 10.0)
        return [breaker.admit(10.0) for _ in range(200)]

    assert admitted() == admitted()
    assert 0 < sum(admitted()) < 200


def test_past_is_forgotten_after_the_window():
    breaker = Breaker(POLICY, clock.seeded(1))
    fail(breaker, 500, 10.0)
    assert breaker.held_back(10.0) > 0.9
    assert breaker.state(10.0 + POLICY.window_s) == "closed"
