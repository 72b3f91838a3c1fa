"""The retry budget, whatever comes when."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.resilience.budget import EXPIRES_S, PER_S, SHARE, RetryBudget
from mesh.resilience.window import Window

STEPS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 40), st.integers(0, 10)), min_size=1, max_size=60
)
"""(seconds since the last step, calls, retries wanted)."""


@settings(deadline=None)
@given(STEPS)
def test_retries_stay_within_a_tenth_of_the_calls_and_one_a_second(steps):
    budget, now_s = RetryBudget(), 1000.0
    calls = retries = 0
    for pause_s, called, wanted in steps:
        now_s += pause_s
        for _ in range(called):
            budget.earn(now_s)
        calls += called
        retries += sum(budget.spend(now_s) for _ in range(wanted))
        # what silence had earned before the first call, and the second that is still filling
        burst = PER_S * (EXPIRES_S + 1)
        assert retries <= SHARE * calls * 2 + PER_S * (now_s - 1000.0) + burst


@settings(deadline=None)
@given(st.integers(0, 500))
def test_tokens_of_calls_expire(calls):
    budget = RetryBudget()
    for _ in range(calls):
        budget.earn(100.5)
    assert budget.left(100.5) == PER_S * EXPIRES_S + SHARE * calls
    assert budget.left(100.5 + EXPIRES_S) == PER_S * EXPIRES_S


def test_budget_is_empty_once_spent_and_fills_again():
    budget = RetryBudget()
    assert sum(budget.spend(50.0) for _ in range(100)) == PER_S * EXPIRES_S
    assert not budget.spend(50.0 + EXPIRES_S - 1)
    assert budget.spend(50.0 + EXPIRES_S)


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.floats(0, 20), max_size=80))
def test_window_counts_what_happened_in_its_seconds(seconds, pauses):
    window, now_s, happened = Window(seconds), 500.0, []
    for pause_s in pauses:
        now_s += pause_s
        happened.append(now_s)
        window.add(now_s)
        assert window.count(now_s) == sum(int(at) > int(now_s) - seconds for at in happened)
    window.clear()
    assert window.count(now_s) == 0
