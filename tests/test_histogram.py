"""Log-linear histograms: adding up in any order is the same, and quantiles keep their bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.histogram import ERROR, VALUE_MAX, Histogram, Window, bounds, bucket, merged

values = st.lists(
    st.one_of(
        st.integers(0, 200), st.integers(0, VALUE_MAX), st.integers(0, 42).map(lambda n: 1 << n)
    ).map(lambda value: min(value, VALUE_MAX)),
    max_size=60,
)


def of(numbers: list[int]) -> Histogram:
    made = Histogram()
    for number in numbers:
        made.add(number)
    return made


def same(one: Histogram, other: Histogram) -> bool:
    return (one.counts, one.total) == (other.counts, other.total)


@given(st.integers(0, VALUE_MAX))
def test_a_value_lies_in_its_bucket_and_the_bucket_is_narrow(value: int):
    low, beyond = bounds(bucket(value))
    assert low <= value < beyond
    assert (beyond - 1 - low) / 2 <= ERROR * max(low, 1)


@given(st.integers(0, VALUE_MAX >> 1))
def test_buckets_follow_one_another_without_a_gap(value: int):
    number = bucket(value)
    assert bucket(bounds(number)[1]) == number + 1
    assert bucket(value + 1) in {number, number + 1}


def test_beyond_the_greatest_value_and_below_nothing_counts_as_those():
    assert bucket(VALUE_MAX + 10**9) == bucket(VALUE_MAX)
    assert bucket(-5) == bucket(0) == 0


@given(values, values, values)
def test_adding_up_is_associative_and_commutative(one: list[int], two: list[int], three: list[int]):
    left = merged([merged([of(one), of(two)]), of(three)])
    right = merged([of(one), merged([of(three), of(two)])])
    assert same(left, right)
    assert same(left, of(one + two + three))
    assert same(merged([of(one), Histogram()]), of(one))


@given(values.filter(bool), st.floats(0, 1))
def test_a_quantile_is_off_by_no_more_than_the_bound(numbers: list[int], share: float):
    ordered = sorted(numbers)
    rank = max(1.0, share * len(ordered))
    true = next(v for n, v in enumerate(ordered, 1) if n >= rank)
    found = of(numbers).quantile(share)
    assert found is not None
    assert abs(found - true) <= ERROR * true + 0.5


@given(values, st.integers(6, 40))
def test_what_is_below_the_beginning_of_a_bucket_is_counted_exactly(numbers: list[int], bits: int):
    assert of(numbers).below(1 << bits) == sum(number < 1 << bits for number in numbers)


def test_a_window_forgets_and_has_no_quantile_of_nothing():
    window = Window(3)
    for second in range(4):
        for _ in range(second):
            window.add(0.001 * second, failed=second == 3)
        assert window.turn() == second
    found = window.figures()
    assert (found.per_s, found.error_percent) == (2.0, 50.0)
    assert found.p99_ms == pytest.approx(3.0, rel=ERROR)
    for _ in range(3):
        window.turn()
    assert window.figures() == (0.0, None, None, None)
