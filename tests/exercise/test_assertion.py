"""What a run must reach, as it is typed, and whether it does."""

from __future__ import annotations

import pytest

from mesh.errors import WrongUsage
from mesh.exercise.assertion import check, judge, parse
from mesh.exercise.tally import Tally, percentile

KNOWN = ("order.create", "product.list")


def tally(*latencies_ms: float, failed: int = 0) -> Tally:
    found = Tally()
    for value in latencies_ms:
        found.end("order.create", "ok", 0.0, value, value)
    for _ in range(failed):
        found.end("order.create", "failed", 0.0, 1.0, 1.0)
    return found


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("p99<200ms", True),
        ("p99<99ms", False),
        ("p50 <= 50ms", True),
        ("p50<0.051s", True),
        ("max==100ms", True),
        ("p99.9<=100ms", True),
        ("order.create.p99.9<1ms", False),
        ("order.create.p90<=90ms", True),
        ("order.create.p90<90ms", False),
        ("product.list.p90<90ms", False),
        ("failed==0", True),
        ("error%<1", True),
        ("error%<=0%", True),
        ("goodput>=10", True),
        ("goodput>10/s", False),
        ("unknown==0", True),
    ],
)
def test_assertion_is_judged(text, ok):
    found = judge(parse(text), tally(*range(1, 101)), 10.0)
    assert found.ok is ok, found


def test_failures_break_what_speaks_of_them():
    spoilt = tally(1.0, failed=1)
    assert not judge(parse("failed==0"), spoilt, 1.0).ok
    assert judge(parse("error%==50"), spoilt, 1.0).ok
    turned = tally(1.0)
    turned.turned_away = 1
    assert not judge(parse("failed==0"), turned, 1.0).ok


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "METRIC<NUMBER"),
        ("p99=200ms", "METRIC<NUMBER"),
        ("p98<200ms", "did you mean `p9"),
        ("latency<1ms", "no metric"),
        ("order.craete.p99<1ms", "did you mean `order.create`"),
        ("p99<200", "given in ms or s"),
        ("failed<1ms", "given in no unit"),
        ("p99<-1ms", "METRIC<NUMBER"),
    ],
)
def test_wrong_assertion_is_refused_with_the_way_out(text, said):
    with pytest.raises(WrongUsage, match=said) as caught:
        check(parse(text), KNOWN)
    assert caught.value.hint


def test_percentiles_are_values_that_were_measured():
    from array import array

    ordered = array("f", range(1, 1001))
    assert [percentile(ordered, share) for share in (0.5, 0.99, 0.999, 1.0)] == [
        500,
        990,
        999,
        1000,
    ]
    assert percentile(array("f", [7.0]), 0.5) == 7.0
    assert percentile(array("f"), 0.5) is None
