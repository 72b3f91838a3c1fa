"""What each key does, without a terminal."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mesh.dashboard.keys import Act, Break, Explain, Leave, Open, decode, press
from mesh.dashboard.ui import EVENTS, LOGS, SERVICES, TRACES, Ui
from tests.dashboard.frames import DEGRADED, HEALTHY
from tests.dashboard.frames import TRACES as SOME


def typed(text: str, ui: Ui | None = None, frame=HEALTHY):
    ui, effects = ui or Ui(), []
    for key in decode(text):
        ui, effect = press(ui, key, frame)
        effects += [effect] if effect else []
    return ui, effects


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("jk", ["j", "k"]),
        ("\x1b[A\x1bOB\x1b[5~", ["up", "down", "pgup"]),
        ("\x1b", ["esc"]),
        ("\x1bq", ["esc", "q"]),
        ("\r\t\x1b[Z\x7f", ["enter", "tab", "backtab", "backspace"]),
        ("\x1b[200~a\x1b[<0;1;1M\x00\x07", ["a"]),
        ("é漢", ["é", "漢"]),
    ],
)
def test_what_a_terminal_sends_is_read_as_keys(raw: str, found: list[str]):
    assert decode(raw) == found


def test_destructive_keys_ask_once_and_only_yes_does_it():
    assert typed("r")[1] == []
    assert typed("rn")[1] == []
    assert typed("rq")[1] == []
    assert typed("ry")[1] == [Act("restart", "auth")]
    assert typed("jxy")[1] == [Act("stop", "user")]
    assert typed("S")[1] == [Act("start", "auth")]
    assert typed("cl")[1] == [Break("latency", "auth", 30.0)]
    assert typed("c++p")[1] == [Break("pause", "auth", 300.0)]
    assert typed("ck")[1] == [Break("kill", "auth", 0.0)]
    assert typed("cx")[1] == [Act("mend", "auth")]


def test_what_was_asked_about_is_what_is_hit_wherever_it_moves():
    ui, _ = typed("r")
    moved = replace(
        HEALTHY,
        status=replace(HEALTHY.status, services=HEALTHY.status.services[::-1]),
    )
    assert press(ui, "y", moved)[1] == Act("restart", "auth")


@pytest.mark.parametrize("key", "rxSc")
def test_read_only_does_nothing(key: str):
    ui, effects = typed(key, Ui(read_only=True))
    assert effects == []
    assert ui.prompt == ""
    assert ui.note


def test_leaving_an_attached_view_asks_nothing_and_stops_nothing():
    assert typed("q")[1] == [Leave()]


def test_whoever_owns_the_mesh_is_asked():
    assert typed("q", Ui(owner=True))[1] == []
    assert typed("qy", Ui(owner=True))[1] == [Leave(stop=True)]
    assert typed("ql", Ui(owner=True))[1] == [Leave()]
    assert typed("qn", Ui(owner=True))[1] == []


def test_one_key_leads_to_the_logs_or_the_trace_of_what_is_selected():
    ui, _ = typed("l", frame=DEGRADED)
    assert (ui.pane, ui.logs_of) == (LOGS, "user"), "the one in trouble comes first"
    ui, effects = typed("3t")
    newest = HEALTHY.told[-1]
    assert (ui.pane, ui.opened, effects) == (TRACES, newest.trace_id, [Open(newest.trace_id)])
    ui, effects = typed("5kkt")
    assert effects == [Open(HEALTHY.logs[2].trace_id)]
    assert typed("5t")[0].note == "it tells of no trace"
    ui, effects = typed("4\r")
    assert effects == [Open(SOME[0].trace_id)]
    assert typed("4\rl")[0].trace_of == SOME[0].trace_id
    assert typed("t")[0].traces_of == "auth"


def test_enter_tells_everything_and_escape_leads_back():
    ui, effects = typed("\r")
    assert (ui.dialog, effects) == ("details", [Explain("auth")])
    assert typed("\x1b", ui)[0].dialog == ""
    ui, _ = typed("3\r")
    assert ui.dialog == "event"
    assert ui.selected[EVENTS - 1] == str(HEALTHY.told[-1].arrival), "held while more come"
    ui, _ = typed("l\x1b")
    assert ui.logs_of == ""


def test_a_filter_is_typed_kept_and_cleared():
    ui, effects = typed("/orq\x7fd\r")
    assert effects == []
    assert ui.filters[SERVICES - 1] == "ord"
    assert ui.prompt == ""
    assert typed("\x1b", ui)[0].filters[SERVICES - 1] == ""
    assert len(typed("/" + "x" * 500)[0].filter) == 60


def test_panes_go_round():
    assert typed("\t\t")[0].pane == EVENTS
    assert typed("\x1b[Z")[0].pane == LOGS
    assert typed("5\t")[0].pane == SERVICES
    assert typed("51")[0].below == LOGS, "a small screen goes on showing it"


def test_a_list_is_walked_and_followed():
    ui, _ = typed("3kk")
    assert ui.selected[EVENTS - 1] == str(HEALTHY.told[-3].arrival)
    assert typed("f", ui)[0].selected[EVENTS - 1] == ""
    assert typed("jj", ui)[0].selected[EVENTS - 1] == "", "at the end it follows again"
    assert typed("g", ui)[0].selected[EVENTS - 1] == str(HEALTHY.told[0].arrival)
