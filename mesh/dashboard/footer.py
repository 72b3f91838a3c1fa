"""The last row: the keys that work now, what is being asked, what came of it; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesh.dashboard.picture import exact, safe
from mesh.dashboard.ui import EVENTS, FAULT_S, LOGS, SERVICES, TOPOLOGY, TRACES
from mesh.text import cells

if TYPE_CHECKING:
    from mesh.dashboard.picture import Look, Piece, Row
    from mesh.dashboard.ui import Ui


class Key(NamedTuple):
    """`panes` in which it does something; none: in all."""

    key: str
    word: str
    panes: tuple[int, ...] = ()
    destructive: bool = False
    help: str = ""


KEYS = (
    Key("1-5", "pane", help="the pane that has the keys; tab goes round"),
    Key("jk", "select", (SERVICES, EVENTS, TRACES, LOGS), help="or the arrows, PgUp, PgDn, g, G"),
    Key("enter", "details", (SERVICES, EVENTS, LOGS), help="everything about what is selected"),
    Key("enter", "waterfall", (TRACES,), help="the spans of the selected trace"),
    Key("esc", "back"),
    Key("l", "logs", help="of the selected service; of a trace: its lines; again: all"),
    Key("t", "trace", help="of the selected event or line; traces of the service"),
    Key("/", "filter", help="the list in this pane; esc clears"),
    Key("r", "restart", destructive=True, help="the selected service"),
    Key("x", "stop", destructive=True, help="the selected service"),
    Key("S", "start", destructive=True, help="the selected service"),
    Key("c", "chaos", destructive=True, help="break the selected service for a while"),
    Key("e", "errors", help="show only what is wrong"),
    Key("s", "sort", (SERVICES, TRACES), help="by the next column"),
    Key("p", "pause", help="hold the picture; the mesh goes on"),
    Key("f", "follow", (EVENTS, LOGS), help="go on with the newest"),
    Key("w", "wrap", (LOGS,), help="long lines"),
    Key("i", "invert", (SERVICES,), help="the order of the rows"),
    Key("?", "help"),
    Key("q", "quit"),
)

ROOMY = 100
"""Columns from which the keys of a question stand apart."""

CHAOS = (
    ("k", "kill"),
    ("p", "pause"),
    ("l", "latency"),
    ("e", "error"),
    ("d", "drop"),
    ("u", "dup"),
    ("o", "reorder"),
)


def row(ui: Ui, width: int, look: Look) -> Row:
    """What is asked, else what was answered, else the keys."""
    name = safe(ui.target, look)
    match ui.prompt:
        case "filter":
            pieces: list[Piece] = [("/" + safe(ui.filter, look), "strong"), (" ", "selected")]
            return exact([*pieces, ("  enter keep  esc clear", "faint")], width, look)
        case "restart" | "stop":
            return exact(
                [(f" {ui.prompt} {name}? ", "alarm"), ("  y yes  n no", "plain")], width, look
            )
        case "quit":
            asked = " stop the mesh? "
            keys = "  y stop  l log lines instead  n stay"
            return exact([(asked, "alarm"), (keys, "plain")], width, look)
        case "chaos":
            gap = " " if width < ROOMY else "  "
            said = gap.join(f"{key} {word}" for key, word in (*CHAOS, ("x", "mend")))
            said = f"{gap}{said}{gap}+- {FAULT_S[ui.fault_for]:g} s"
            return exact([(f" break {name} ", "alarm"), (said, "plain")], width, look)
        case _:
            if ui.note:
                return exact([(safe(ui.note, look), "strong")], width, look)
            return _keys(ui, width, look)


def _keys(ui: Ui, width: int, look: Look) -> Row:
    works = [
        each
        for each in KEYS
        if (not each.panes or ui.pane in each.panes)
        and not (each.destructive and ui.read_only)
        and (each.key != "esc" or ui.dialog or ui.opened)
        and (each.key != "jk" or ui.pane != TOPOLOGY)
    ]
    *some, help_, quit_ = works
    always = (help_, quit_)
    room = width - sum(_cells(each) for each in always)
    shown: list[Key] = []
    for each in some:
        if _cells(each) <= room:
            shown.append(each)
            room -= _cells(each)
    pieces: list[Piece] = []
    for each in (*shown, *always):
        pieces += [(each.key, "strong"), (f" {each.word}  ", "faint")]
    return exact(pieces, width, look)


def _cells(key: Key) -> int:
    return cells(f"{key.key} {key.word}  ")
