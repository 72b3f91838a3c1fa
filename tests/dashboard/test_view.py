"""What the screen shows, cell by cell, and that it never shows more than there is room for."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from mesh.dashboard import keys, listing
from mesh.dashboard.frame import Frame, LogLine, Told
from mesh.dashboard.ui import ORDERS, SORTS, Ui
from mesh.dashboard.view import view
from mesh.orchestrator.contract import Fault, ProgramStatus, Status
from mesh.text import cells
from tests.dashboard.frames import DEGRADED, FRAMES, HEALTHY, PAYLOADS, WATERFALL

SNAPSHOTS = Path(__file__).parent.parent / "snapshots"

SHOWN = {
    "healthy-120x36": (HEALTHY, Ui()),
    "degraded-120x36": (DEGRADED, Ui(pane=4, opened=WATERFALL.trace_id)),
    "nothing-120x36": (FRAMES["nothing"], Ui()),
    "long-120x36": (FRAMES["long"], Ui(pane=5, wrap=True)),
    "payloads-120x36": (PAYLOADS, Ui()),
    "healthy-80x24": (HEALTHY, Ui()),
    "degraded-80x24": (DEGRADED, Ui(errors_only=True, pane=5, below=5)),
    "degraded-80x24-traces": (DEGRADED, Ui(pane=4, below=4, opened=WATERFALL.trace_id)),
    "degraded-80x24-topology": (DEGRADED, Ui(pane=2, below=2, prompt="chaos", target="product")),
    "details-80x24": (DEGRADED, Ui(dialog="details", selected=("order", "", "", "", ""))),
    "help-80x24": (HEALTHY, Ui(dialog="help")),
    "event-80x24": (HEALTHY, Ui(pane=3, dialog="event", prompt="restart", target="auth")),
    "nothing-80x24": (FRAMES["nothing"], Ui(read_only=True, paused=True)),
    "healthy-60x15": (HEALTHY, Ui()),
    "degraded-60x15": (DEGRADED, Ui(prompt="quit")),
    "degraded-40x10": (DEGRADED, Ui()),
}


@pytest.mark.parametrize("ascii_", [False, True], ids=["unicode", "ascii"])
@pytest.mark.parametrize("name", SHOWN)
def test_screen_looks_like_its_snapshot(name: str, ascii_: bool):
    frame, ui = SHOWN[name]
    size = next(word for word in name.split("-") if "x" in word and word[0].isdigit())
    width, height = map(int, size.split("x"))
    shown = view(frame, replace(ui, ascii=ascii_), width, height).plain
    text = "\n".join(row.rstrip() for row in shown.split("\n")) + "\n"
    file = SNAPSHOTS / f"dashboard-{name}-{'ascii' if ascii_ else 'unicode'}.txt"
    if os.environ.get("MESH_SNAPSHOTS") == "write":
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")
    assert not ascii_ or text.isascii()


def fits(frame: Frame, ui: Ui, width: int, height: int) -> str:
    picture = view(frame, ui, width, height)
    assert len(picture.rows) == height
    for row in picture.rows:
        assert sum(cells(piece) for piece, _ in row) == width
    return picture.plain


@pytest.mark.parametrize("name", FRAMES)
def test_every_size_is_filled_exactly(name: str):
    uis = [Ui(), Ui(pane=5, wrap=True), Ui(dialog="help"), Ui(dialog="details"), Ui(prompt="chaos")]
    for width in (1, 2, 3, 4, 5, 6, 7, 11, 59, 60, 80, 109, 110, 300):
        for height in (1, 2, 3, 4, 5, 6, 7, 14, 15, 31, 32, 100):
            ui = uis[(width + height) % len(uis)]
            fits(FRAMES[name], ui, width, height)


TEXTS = st.text(max_size=40)
NUMBERS = st.none() | st.floats(0, 1e9) | st.integers(0, 10**12)
ROWS = st.builds(
    ProgramStatus,
    name=TEXTS,
    state=st.sampled_from(["stopped", "starting", "ready", "degraded", "backoff", "failed"]),
    cause=st.none() | TEXTS,
    p50_ms=NUMBERS,
    p99_ms=NUMBERS,
    error_percent=NUMBERS,
    requests_per_s=NUMBERS,
    rss_bytes=NUMBERS,
    uptime_s=NUMBERS,
    lag=st.none() | st.integers(0, 10**9),
    history=st.none() | st.lists(st.integers(0, 10**6), max_size=70).map(tuple),
    faults=st.lists(
        st.builds(Fault, kind=st.just("drop"), target=TEXTS, for_s=st.just(1.0)), max_size=3
    ).map(tuple),
)
FRAMES_ = st.builds(
    Frame,
    status=st.builds(
        Status,
        project=TEXTS,
        supervisor=st.none(),
        services=st.lists(ROWS, max_size=30).map(tuple),
    ),
    told=st.lists(
        st.builds(
            Told,
            arrival=st.integers(0, 10**9),
            at_ms=st.integers(0, 2**45),
            type=TEXTS,
            stream=TEXTS,
            epoch=st.integers(0, 9),
            sequence=st.integers(0, 10**9),
            subject=TEXTS,
            id=TEXTS,
            trace_id=TEXTS,
            body=TEXTS,
        ),
        max_size=20,
    ).map(tuple),
    logs=st.lists(
        st.builds(
            LogLine,
            number=st.integers(0, 10**9),
            at_ms=st.none() | st.integers(0, 2**45),
            service=TEXTS,
            level=st.none() | st.sampled_from(["debug", "warning", "error"]),
            message=TEXTS,
            facts=TEXTS,
        ),
        max_size=20,
    ).map(tuple),
    traces=st.just(HEALTHY.traces),
    waterfall=st.sampled_from([None, WATERFALL]),
    quiet=TEXTS,
)
UIS = st.builds(
    Ui,
    pane=st.integers(1, 5),
    below=st.integers(2, 5),
    filters=st.tuples(*[st.just("") | TEXTS] * 5),
    sort=st.sampled_from(SORTS),
    order=st.sampled_from(ORDERS),
    opened=st.sampled_from(["", WATERFALL.trace_id]),
    errors_only=st.booleans(),
    reverse=st.booleans(),
    wrap=st.booleans(),
    dialog=st.sampled_from(["", "help", "details", "event", "line"]),
    prompt=st.sampled_from(["", "filter", "restart", "chaos", "quit"]),
    scroll=st.integers(0, 300),
    owner=st.booleans(),
    read_only=st.booleans(),
    ascii=st.booleans(),
    note=TEXTS,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(frame=FRAMES_, ui=UIS, width=st.integers(1, 300), height=st.integers(1, 100))
def test_no_frame_is_too_much_for_any_screen(frame: Frame, ui: Ui, width: int, height: int):
    shown = fits(frame, ui, width, height)
    assert fits(frame, ui, width, height) == shown, "not pure"
    for char in shown:
        assert char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not ui.ascii or shown.isascii()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    frame=FRAMES_,
    ui=UIS,
    typed=st.lists(
        st.sampled_from([*"12345jkgGlsrxSceftwpi/?qyn+-", "enter", "esc", "tab", "backtab"])
        | st.sampled_from([*keys.ESCAPES.values(), "backspace"]),
        max_size=30,
    ),
)
def test_no_key_leads_to_a_screen_that_cannot_be_drawn(frame: Frame, ui: Ui, typed: list[str]):
    ui = replace(ui, prompt="") if ui.read_only else ui
    for key in typed:
        ui, effect = keys.press(ui, key, frame)
        if ui.read_only:
            assert not isinstance(effect, keys.Break | keys.Act)
    fits(frame, ui, 110, 32)


@pytest.mark.parametrize("ascii_", [False, True])
def test_payloads_reach_no_terminal(ascii_: bool):
    for ui in (
        Ui(),
        Ui(pane=3, dialog="event"),
        Ui(pane=5, dialog="line"),
        Ui(pane=5, wrap=True),
        Ui(opened=WATERFALL.trace_id),
    ):
        console = Console(width=120, height=36, force_terminal=True, color_system="standard")
        with console.capture() as captured:
            console.print(view(PAYLOADS, replace(ui, ascii=ascii_), 120, 36))
        left = captured.get().replace("\x1b[0m", "")
        for code in ("1", "2", "7", "31", "32", "33", "34", "35", "36", "1;31", "1;7", "7;1"):
            left = left.replace(f"\x1b[{code}m", "")
        assert "\x1b" not in left
        assert "\x07" not in left
        assert "\\u001b]0;owned" in left
        assert "[red]x[/red]" in left or "wrap" in repr(ui)


def test_errors_come_first():
    assert [row.name for row in listing.services(DEGRADED, Ui())][:3] == [
        "user",
        "order",
        "product",
    ]
    shown = listing.services(DEGRADED, Ui(errors_only=True))
    assert [row.name for row in shown] == ["user", "order", "product"]
    assert [each.level for each in listing.logs(DEGRADED, Ui(errors_only=True))] == [
        "warning",
        "error",
    ]
    assert listing.traces(DEGRADED, Ui(order="errors"))[0].error
    assert [each.sequence for each in listing.events(DEGRADED, Ui(errors_only=True))] == [510]


def test_applied_pending_and_parked_are_told_apart_without_colour():
    shown = view(DEGRADED, Ui(), 80, 24).plain
    assert "order-" in shown
    assert "orderx" in shown
    assert "order+" in view(HEALTHY, Ui(), 80, 24).plain


def test_a_state_is_a_word_and_a_sign_and_never_a_colour_alone():
    shown = view(DEGRADED, Ui(), 120, 36).plain
    for sign, word in (("↻", "backoff"), ("▲", "degraded"), ("●", "ready")):
        assert any(sign in row and word in row for row in shown.split("\n"))
