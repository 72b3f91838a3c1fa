"""A story laid out: who hangs below whom, what the answer hung on, what nobody recorded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.tracing.span import UNFINISHED, Span
from mesh.tracing.stories import SPANS_MAX, Stories, summary
from mesh.tracing.waterfall import waterfall
from tests.tracing.stories import AT_US, BEFELL, HOLD, ID, ORDER, span


def shape(spans: list[Span]) -> list[tuple[int, str, bool]]:
    return [(row.depth, row.label, row.later) for row in waterfall(spans).rows]


def test_story_is_a_tree_with_what_was_left_for_later_beneath():
    assert shape(ORDER) == [
        (0, "mesh call order create", False),
        (1, "create", False),
        (2, "commit", False),
        (2, "ask product PUT /holds/{order_id}", False),
        (2, "ask product PUT /holds/{order_id}", False),
        (3, "hold", False),
        (4, "commit", False),
        (2, "commit", False),
        (0, "tell product.stock_changed", True),
        (1, "hear product.stock_changed", True),
        (2, "on_stock_changed", True),
        (3, "wake (deferred)", True),
        (0, "tell order.status_changed", True),
    ]


def test_order_of_the_records_does_not_matter():
    assert waterfall(ORDER) == waterfall(ORDER[::-1])


def test_attempts_are_numbered_and_waits_told_from_work():
    rows = {row.span.span_id[-1:]: row for row in waterfall(ORDER).rows}
    assert (rows["4"].attempt, rows["5"].attempt) == (1, 2)
    assert [part.tone for part in rows["3"].segments] == ["wait", "work"]
    wait, work = rows["3"].segments
    assert (wait.start_us, wait.end_us, work.end_us) == (6_000, 14_000, 26_000)
    assert [part.tone for part in rows["9"].segments] == ["wait"]
    (heard,) = rows["a"].segments
    assert (heard.start_us, heard.end_us) == (474_000, 500_000), "it begins where the bus had it"


def test_what_the_answer_hung_on_is_marked():
    marked = {int(row.span.span_id, 16) for row in waterfall(ORDER).rows if row.critical}
    assert marked == {1, 2, 3, 4, 5, 6, 7, 8}
    parallel = [
        span(1, 0, "order", "server", "create", 0, 100),
        span(2, 1, "order", "client", "slow", 0, 90, "", HOLD),
        span(3, 1, "order", "client", "quick", 0, 50, "", HOLD),
        span(4, 1, "order", "commit", "after", 90, 10),
    ]
    found = waterfall(parallel).rows
    assert [row.span.name for row in found if row.critical] == ["create", "slow", "after"]


def test_who_was_killed_before_it_could_tell_has_a_stand_in():
    fall = waterfall([each for each in ORDER if each.name != "hold" and each.kind != "outbox"])
    missing = {row.span.span_id[-1:]: row.span for row in fall.rows if row.span.duration_us < 0}
    assert {(key, each.service, each.kind) for key, each in missing.items()} == {
        ("6", "product", "server"),
        ("9", "b", "outbox"),
    }
    assert {key: each.status for key, each in missing.items()} == {
        "6": "unfinished",
        "9": "unrecorded",
    }
    assert {each.duration_us for each in missing.values()} == {UNFINISHED}


def test_a_callers_own_span_is_not_missed():
    (row,) = waterfall([span(2, 99, "order", "server", "create", 0, 5)]).rows
    assert (row.depth, row.span.name) == (0, "create")


def test_what_befell_those_who_took_part_stands_on_the_same_axis():
    fall = waterfall(ORDER, BEFELL)
    assert [(each.at_us, each.program, each.what) for each in fall.incidents] == [
        (129_000, "product", "ready -> starting: signal 9"),
        (410_000, "product", "starting -> ready: ready"),
    ]
    dead = [each for each in ORDER if each.service != "product"]
    assert len(waterfall(dead, BEFELL).incidents) == 2, "who was asked took part, be it dead"
    late = waterfall(ORDER, [(AT_US + 900_000, "order", "ready -> starting: signal 9")])
    assert late.length_us == 900_000


spans = st.lists(
    st.builds(
        Span,
        trace_id=st.just(ID),
        span_id=st.sampled_from([f"{n:016x}" for n in range(1, 12)]),
        parent_id=st.sampled_from(["", *(f"{n:016x}" for n in range(1, 14))]),
        kind=st.sampled_from(["call", "server", "client", "commit", "outbox", "delivery", "x"]),
        name=st.text(max_size=5),
        start_us=st.integers(AT_US, AT_US + 5_000),
        duration_us=st.integers(0, 5_000),
        status=st.sampled_from(["", "500"]),
        values=st.lists(st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=3))).map(tuple),
        service=st.sampled_from(["order", "product"]),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda each: each.span_id,
)


@given(spans)
def test_whatever_was_recorded_each_span_has_one_row_within_the_axis(found: list[Span]):
    fall = waterfall(found)
    ids = [row.span.span_id for row in fall.rows]
    assert len(ids) == len(set(ids))
    assert set(ids) >= {each.span_id for each in found}
    assert all(row.span.duration_us < 0 for row in fall.rows if row.span not in found)
    for row in fall.rows:
        for part in row.segments:
            assert 0 <= part.start_us <= part.end_us <= fall.length_us
    assert summary(found).spans == len(found)


def test_summary_tells_root_time_tries_and_failure():
    found = summary(ORDER)
    assert (found.root, found.service) == ("mesh call order create", "mesh")
    assert found.services == ("mesh", "order", "product")
    assert (found.duration_us, found.whole_us) == (500_000, 580_000)
    assert (found.spans, found.retries, found.error) == (13, 1, "unavailable")


def test_stories_are_bounded_and_count_what_they_let_go():
    stories = Stories(stories_max=2)
    for number in range(3):
        stories.take([Span(f"{number}" * 32, "a", "", "server", "s", number, 1)])
    assert [row.trace_id[0] for row in stories.summaries()] == ["2", "1"]
    assert stories.dropped == 1
    many = [Span("2" * 32, f"{n}", "", "server", "s", n, 1) for n in range(SPANS_MAX + 5)]
    stories.take(many)
    assert len(stories.spans("2" * 32)) == SPANS_MAX
    assert stories.dropped == 7
    assert stories.named("2") == ["2" * 32]
    assert stories.spans("nobody's") == []
