"""What follows when a listener fails: pure, told by stories of failures and successes."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from mesh.framework import handling
from mesh.framework.handling import (
    ATTEMPTS_MAX,
    DEGRADED_S,
    OUTAGE_EVENTS,
    OUTAGE_S,
    RETRY_S,
    Failure,
    Troubles,
)


class Fail(NamedTuple):
    """One try that fails. `passes`: with an error that will pass."""

    seq: int
    stream: str = "product"
    passes: bool = False
    halt: bool = False


class Work(NamedTuple):
    """An event that is applied."""

    stream: str = "product"


class Wait(NamedTuple):
    seconds: float


def told(story: list[Fail | Work | Wait]) -> tuple[list[str], Troubles]:
    """The verdicts of the failures; what is parked is parked."""
    troubles, now_s, verdicts = Troubles(), 1000.0, []
    for step in story:
        now_s += 0.01
        match step:
            case Wait(seconds):
                now_s += seconds
            case Work(stream):
                troubles = handling.succeeded(troubles, stream)
            case Fail(seq, stream, passes, halt):
                failure = Failure(stream, 1, seq, "no", 0 if passes else 1, halt)
                troubles, verdict, _ = handling.failed(troubles, failure, now_s)
                verdicts.append(verdict)
                if verdict == "park":
                    troubles = handling.parked(troubles, stream, now_s)
    return verdicts, troubles


FIVE = ["again"] * (ATTEMPTS_MAX - 1) + ["park"]
HELD = ["again"] * 2 * ATTEMPTS_MAX


def fails(seq: int, times: int = ATTEMPTS_MAX, **more) -> list[Fail]:
    return [Fail(seq, **more)] * times


@pytest.mark.parametrize(
    ("story", "verdicts"),
    [
        pytest.param(fails(1), FIVE, id="five tries, then parked"),
        pytest.param(fails(1, 100, passes=True), ["again"] * 100, id="what passes is never parked"),
        pytest.param(
            [*fails(1, 4), *fails(1, 50, passes=True), Fail(1)],
            ["again"] * 54 + ["park"],
            id="what passes neither counts nor clears",
        ),
        pytest.param(fails(1, halt=True), [*FIVE[:-1], "halt"], id="a halting listener stops"),
        pytest.param(
            [Fail(1, "a"), Fail(1, "b"), *fails(1, 10, halt=True)],
            ["again"] * 2 + HELD,
            id="an outage halts nobody",
        ),
        pytest.param([*fails(1), *fails(2)], FIVE * 2, id="two in a row are parked"),
        pytest.param(
            [*fails(1), *fails(2), *fails(3, 10)], FIVE * 2 + HELD, id="the third is the world"
        ),
        pytest.param(
            [*fails(1), *fails(2), *fails(3, 10), Wait(OUTAGE_S * 2), *fails(3, 10)],
            FIVE * 2 + HELD * 2,
            id="an outage does not end by itself",
        ),
        pytest.param(
            [*fails(1), Work(), *fails(3), Work(), *fails(5), Work(), *fails(7)],
            FIVE * 4,
            id="with successes between them each is parked",
        ),
        pytest.param(
            [*fails(1), *fails(2), *fails(3, 5), Work("order"), Fail(3)],
            [*FIVE * 2, *["again"] * 5, "park"],
            id="a success elsewhere ends the outage and convicts the probe",
        ),
        pytest.param(
            [*fails(1), Wait(OUTAGE_S), *fails(2), Wait(OUTAGE_S), *fails(3)],
            FIVE * 3,
            id="far apart they are three events",
        ),
        pytest.param(
            [Fail(1, "a"), Fail(1, "b"), *fails(1, 10, stream="c")],
            ["again"] * 2 + HELD,
            id="three streams failing at once are the world",
        ),
        pytest.param(
            [
                Fail(1, "a"),
                Fail(1, "b"),
                Work("d"),
                *fails(1, stream="c"),
                *fails(1, 4, stream="a"),
            ],
            ["again"] * 2 + FIVE + FIVE[1:],
            id="three streams failing while a fourth works are three events",
        ),
        pytest.param(
            [
                *fails(1, 9, stream="a", passes=True),
                *fails(1, 9, stream="b", passes=True),
                *fails(1, stream="c"),
            ],
            ["again"] * 18 + FIVE,
            id="what passes elsewhere is no outage",
        ),
    ],
)
def test_verdicts(story: list[Fail | Work | Wait], verdicts: list[str]):
    assert told(story)[0] == verdicts


def test_deaths_count_at_once():
    failure = Failure("product", 1, 7, "exit 9", tries=ATTEMPTS_MAX)
    assert handling.failed(Troubles(), failure, 0.0)[1] == "park"
    remembered = Troubles(parked_s=(-1.0,) * (OUTAGE_EVENTS - 1))
    assert handling.failed(remembered, failure, 0.0)[1] == "again"


def test_wait_doubles_up_to_its_bound_and_begins_anew_with_another_event():
    troubles, waits = Troubles(), []
    for _ in range(14):
        failure = Failure("product", 1, 1, "busy", tries=0)
        troubles, _, wait_s = handling.failed(troubles, failure, 0.0)
        waits.append(wait_s)
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == RETRY_S[1]
    assert handling.failed(troubles, Failure("product", 1, 2, "busy", 0), 0.0)[2] == RETRY_S[0]


def test_complaint_comes_after_a_minute_and_goes_with_success():
    troubles = handling.failed(Troubles(), Failure("product", 1, 4, "busy", 0), 0.0)[0]
    assert handling.complaints(troubles, DEGRADED_S) == []
    (said,) = handling.complaints(troubles, DEGRADED_S + 1)
    assert said == "product has been retried at event 4 for 61 s: busy"
    assert handling.state(troubles, "product") == "retrying"
    troubles = handling.succeeded(troubles, "product")
    assert handling.complaints(troubles, DEGRADED_S + 1) == []
    assert handling.state(troubles, "product") == "live"


def test_halted_stream_is_complained_of_at_once():
    _, troubles = told(fails(3, halt=True))
    assert handling.complaints(troubles, 0.0) == ["product is halted at event 3: no"]
    assert handling.state(troubles, "product") == "halted"
