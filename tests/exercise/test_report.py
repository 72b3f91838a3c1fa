"""What a run is told as: nothing wider than the terminal, nothing by colour alone."""

from __future__ import annotations

import pytest

from mesh.exercise import report
from mesh.exercise.assertion import Held
from mesh.exercise.chaos import Fault, Inflicted
from mesh.exercise.checker import Judgement, Wrong
from mesh.exercise.tally import Tally
from mesh.exercise.verify import Check, Violation

OPERATIONS = ("order.create", "order.get", "product.list", "user.register")


def ran(*, failed: int = 0, seconds: int = 30) -> report.Run:
    tally = Tally(visits=300)
    for n in range(3000):
        due_ms = 0.5 + (n % 97) ** 2 / 10
        at_s = n * seconds / 3000
        tally.end(OPERATIONS[n % 4], "ok", at_s, due_ms, due_ms)
    for n in range(failed):
        tally.end("order.create", "failed", 1.0, 1.0, 1.0)
        tally.kinds["order.create", f"503 reason-{n}"] += 1
    return report.Run(
        "all scenarios", 7, 100.0, float(seconds), tally, took_s=float(seconds), cpu_percent=12.0
    )


def text(run: report.Run, width: int) -> list[str]:
    return [
        "".join(part if isinstance(part, str) else part[0] for part in line)
        for line in report.lines(run, width)
    ]


def broken() -> report.Run:
    run = ran(failed=20)
    run.faults = [
        Inflicted(Fault(4.0, "kill", "supervisor"), 4.0, 3.3),
        Inflicted(Fault(9.0, "pause", "order", 3.0), 9.0, 0.0),
        Inflicted(Fault(20.0, "latency", "product", 3.0, 0.5, 300), 20.0, 0.0, "product is away"),
    ]
    run.healed = "all ready after 0.1 s, at rest after 0.9 s"
    run.judgement = Judgement((Wrong("C1", "order.create k1", "happened 2 times"),), 6000, 5, 3, 2)
    run.checks = [
        Check(
            name="no-oversell",
            service="product",
            sentence="nothing is oversold",
            ok=True,
            checked=6,
        ),
        Check(
            name="steps-told",
            service="order",
            sentence="one event was told for each step",
            ok=False,
            checked=9,
            violations=(Violation("ord_1"),),
        ),
    ]
    run.asserted = [Held("p99<200ms", 812.0, ok=False)]
    run.evidence = "data/exercise/x1"
    run.repeat = "mesh exercise --seed 7"
    return run


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("run", [ran(), broken()], ids=["well", "broken"])
def test_report_is_no_wider_than_the_terminal(run, width):
    assert max(map(len, text(run, width))) <= width


def test_run_that_went_well_says_so():
    shown = text(ran(), 100)
    assert "verdict ok" in shown
    assert any("3,000 ok" in line for line in shown)
    assert any(line.startswith("answers/s") and "█" in line for line in shown)
    assert not any("again " in line and "mesh exercise" in line for line in shown)


def test_broken_run_names_what_is_wrong_and_how_to_repeat_it():
    shown = "\n".join(text(broken(), 100))
    assert "verdict wrong" in shown
    assert "C1 order.create k1 happened 2 times" in shown
    assert "of 5 unknown 3 happened, 2 did not" in shown
    assert "steps-told order: one event was told for each step\n           ord_1" in shown
    assert "✗ wrong  asserted  p99<200ms  found 812" in shown
    assert "kill supervisor: up again after 3.3 s" in shown
    assert "not done: product is away" in shown
    assert "mesh exercise --seed 7" in shown
    assert "of other kinds" in shown


def test_faults_stand_on_the_time_axis_where_they_were():
    lines = text(broken(), 100)
    (kill,) = (line for line in lines if line.startswith("kill "))
    (pause,) = (line for line in lines if line.startswith("pause "))
    axis = kill[report.LABEL :]
    assert len(axis) == 30
    assert axis.index("✗") == 4
    assert pause[report.LABEL :].strip("·") == "‖" * 4
    assert pause[report.LABEL :].index("‖") == 9


def test_lost_requests_make_the_verdict_only_where_nothing_was_broken():
    assert not ran(failed=1).ok
    run = ran(failed=1)
    run.faults = [Inflicted(Fault(4.0, "kill", "order"), 4.0, 0.0)]
    assert run.ok


def test_whoever_broke_something_else_is_told_beside_what_was_lost():
    run = ran(failed=3)
    assert any("3 lost, and nothing was broken" in line for line in text(run, 80))
    run.befell = ["  2.5 s  order: ready -> stopping: asked"]
    shown = "\n".join(text(run, 80))
    assert "3 lost, while this happened:" in shown
    assert "2.5 s  order: ready -> stopping: asked" in shown


def test_both_latencies_are_shown_where_they_part():
    run = ran()
    for _ in range(100):
        run.tally.end("order.get", "ok", 3.0, 9000.0, 10.0)
    shown = text(run, 100)
    assert any("from when due" in line for line in shown)
    assert any("from when sent" in line for line in shown)
    assert not any("from when sent" in line for line in text(ran(), 100))


def test_long_run_is_drawn_into_the_width_and_nothing_at_all_is_told_as_such():
    assert max(map(len, text(ran(seconds=1500), 80))) <= 80
    empty = report.Run("browse", 1, 1.0, 1.0, Tally())
    assert "no answers" in text(empty, 80)


def test_run_that_asked_nothing_shows_nothing():
    empty = report.Run("browse", 1, 1.0, 1.0, Tally(visits=3, unfinished=2))
    assert not empty.ok
    shown = text(empty, 80)
    assert "verdict wrong" in shown
    assert "✗ wrong  requests  none was made, and so nothing is shown" in shown
    assert "visitors    3  2 did not end" in shown


def test_rest_of_a_second_at_the_end_is_no_dip():
    tally = Tally()
    for n in range(45):
        tally.end("order.get", "ok", n / 10, 1.0, 1.0)  # ten a second, for 4.5 s
    run = report.Run("all scenarios", 7, 10.0, 4.5, tally, took_s=4.5)
    (answers,) = (line for line in text(run, 80) if line.startswith("answers/s"))
    assert answers[report.LABEL :].startswith("█████ ")
    tally.end("order.get", "failed", 5.1, 1.0, 1.0)
    run.took_s = 5.1
    (lost,) = (line for line in text(run, 80) if line.startswith("not ok/s"))
    assert lost[report.LABEL :].rstrip().startswith("    █  at most 1")


def test_live_view_is_two_lines_and_one_for_the_latest_fault():
    assert len(report.live(ran().tally, 12.0, 30.0, 4, "")) == 2
    shown = report.live(ran().tally, 12.0, 30.0, 4, "kill order at 9 s")
    assert len(shown) == 3
    flat = " ".join(part if isinstance(part, str) else part[0] for line in shown for part in line)
    assert "12 of 30 s" in flat
    assert "3,000 answered" in flat
    assert "kill order at 9 s" in flat


def test_many_faults_are_summed_up_and_none_that_did_harm_is_worth_three_in_n():
    run = ran()
    names = ("order", "bus", "supervisor")
    run.faults = [
        Inflicted(Fault(n / 40, "kill", names[n % 3]), n / 40, 0.0, "away" if n == 7 else None)
        for n in range(1001)
    ]
    run.judgement = Judgement((), 6000, 0, 0, 0)
    run.checks = [Check(name="a", service="order", sentence="b", ok=True, checked=1)]
    shown = text(run, 100)
    assert any("kill 1000: 333 bus, 334 order, 333 supervisor; 1 could not" in row for row in shown)
    assert len(shown) < 60
    assert any(
        "0 of 1,000 faults did harm: at most 0.3 % do, with 95 % confidence" in row for row in shown
    )
    run.judgement = Judgement((Wrong("C1", "k1", "happened 2 times"),), 6000, 0, 0, 0)
    assert run.bound is None
    assert not any("did harm" in row for row in text(run, 100))


def test_run_that_could_not_be_judged_is_told_all_the_same():
    run = ran()
    run.not_judged = "order.db cannot be read: file is not a database"
    assert not run.ok
    shown = text(run, 100)
    assert "✗ wrong  promises  order.db cannot be read: file is not a database" in shown
    assert any("3,000 ok" in line for line in shown)


def test_bound_of_a_single_fault_is_told_as_a_number():
    run = ran()
    run.faults = [Inflicted(Fault(4.0, "kill", "order"), 4.0, 0.0)]
    run.judgement = Judgement((), 6000, 0, 0, 0)
    run.checks = [Check(name="a", service="order", sentence="b", ok=True, checked=1)]
    assert any("0 of 1 fault did harm: at most 100 % do" in row for row in text(run, 100))
