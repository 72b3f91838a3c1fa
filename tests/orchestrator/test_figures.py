"""What the supervisor makes of what a program counts about itself."""

from __future__ import annotations

import pytest

from mesh import codec
from mesh.figures import HISTORY_S, PEERS_MAX, Asks, Figures, Hears, Tells
from mesh.orchestrator.child import WORD_BYTES_MAX
from mesh.orchestrator.contract import ProgramStatus
from mesh.orchestrator.figures import FRESH_S, Told

ROW = ProgramStatus(name="order", state="ready")


def message(requests: int) -> str:
    return codec.encode_text(Figures(requests=requests, requests_per_s=requests / 10, p50_ms=1.5))


def test_each_second_has_its_count_however_the_messages_jitter():
    told = Told()
    for second, jitter in enumerate([0.0, 0.2, -0.2, 0.1, -0.3]):
        told.take(message(second + 1), 100 + second + jitter)
    assert told.shown(ROW, 104.5).history == (1, 2, 3, 4, 5)


def test_silence_is_seconds_without_requests_and_then_no_figures_at_all():
    told = Told()
    told.take(message(7), 100.0)
    assert told.shown(ROW, 100.9).history == (7,)
    soon = told.shown(ROW, 100.0 + FRESH_S)
    assert (soon.requests_per_s, soon.p50_ms, soon.p99_ms) == (0.7, 1.5, None)
    assert soon.history == (7, 0, 0)
    later = told.shown(ROW, 100.1 + FRESH_S)
    assert (later.requests_per_s, later.p50_ms) == (None, None)
    told.take(message(9), 104.0)
    assert told.shown(ROW, 104.0).history == (7, 0, 0, 0, 9)


def test_history_is_bounded_and_outlives_the_process():
    told = Told()
    for second in range(2 * HISTORY_S):
        told.take(message(second), float(second))
    told.forget()
    shown = told.shown(ROW, 2 * HISTORY_S - 1.0)
    assert shown.requests_per_s is None
    assert shown.history == tuple(range(HISTORY_S, 2 * HISTORY_S))
    assert told.shown(ROW, 1e9).history == (0,) * HISTORY_S


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"requests":1}',
        '{"requests":-1,"requests_per_s":1.0}',
        '{"requests":1,"requests_per_s":-1}',
        '{"requests":1,"requests_per_s":NaN}',
        '{"requests":1,"requests_per_s":1,"error_percent":101}',
        '{"requests":1,"requests_per_s":1,"hears":[{"stream":"'
        + "x" * 32
        + '","events_per_s":1}]}',
    ],
)
def test_what_is_out_of_bounds_is_not_believed(text: str):
    told = Told()
    told.take(text, 100.0)
    assert told.shown(ROW, 100.0) == ROW


def test_the_largest_message_fits_one_write_to_a_pipe():
    name, much = "n" * 31, 123456789.123
    asks = Asks(
        callee=name,
        requests_per_s=much,
        p50_ms=much,
        p99_ms=much,
        error_percent=12.34,
        breaker="half-open",
    )
    hears = Hears(stream=name, events_per_s=much, p50_ms=much, p99_ms=much, lag=10**9, parked=10**9)
    whole = Figures(
        requests=10**9,
        requests_per_s=much,
        p50_ms=much,
        p99_ms=much,
        error_percent=12.34,
        asks=(asks,) * PEERS_MAX,
        hears=(hears,) * PEERS_MAX,
        tells=Tells(events_per_s=much, waiting=10**9),
        dropped=10**12,
    )
    assert len("FIGURES=" + codec.encode_text(whole)) < WORD_BYTES_MAX
