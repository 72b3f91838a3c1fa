"""What a key does: to what the person has chosen, and to the mesh. Pure.

A destructive key only asks; the effect is in the answer. With `read_only` it does nothing.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from mesh.dashboard import listing
from mesh.dashboard.ui import EVENTS, FAULT_S, LOGS, ORDERS, PANES, SERVICES, SORTS, TRACES, put

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.dashboard.frame import Frame
    from mesh.dashboard.ui import Ui

PAGE = 10
"""Rows that PgUp and PgDn go."""

FILTER_CHARS_MAX = 60


class Leave(Struct, frozen=True):
    """Close the screen. `stop`: and the mesh."""

    stop: bool = False


class Act(Struct, frozen=True):
    """Have one service restarted, stopped or started, or its faults mended."""

    what: Literal["restart", "stop", "start", "mend"]
    name: str


Fault = Literal["kill", "pause", "latency", "error", "drop", "dup", "reorder"]


class Break(Struct, frozen=True):
    """Break a service on purpose; `kill` happens once, all else lasts."""

    kind: Fault
    name: str
    for_s: float


class Explain(Struct, frozen=True):
    """Ask why a service is in its state."""

    name: str


class Open(Struct, frozen=True):
    """Read one trace."""

    trace_id: str


Effect = Leave | Act | Break | Explain | Open
Pressed = tuple["Ui", Effect | None]

ESCAPES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "OA": "up",
    "OB": "down",
    "OC": "right",
    "OD": "left",
    "[H": "home",
    "[F": "end",
    "OH": "home",
    "OF": "end",
    "[1~": "home",
    "[4~": "end",
    "[5~": "pgup",
    "[6~": "pgdn",
    "[Z": "backtab",
}
_SEQUENCE = re.compile(r"\x1b(O[A-Z]|\[[0-?]*[ -/]*[@-~])")
_NAMED = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"}


def decode(typed: str) -> list[str]:
    """The keys in what a terminal sent at once: characters, or names like `up`, `enter`, `esc`.

    A sequence that means nothing here is no key; a lone escape is `esc`.
    """
    found: list[str] = []
    while typed:
        if typed[0] == "\x1b":
            sequence = _SEQUENCE.match(typed)
            found.append(ESCAPES.get(sequence.group(1), "") if sequence else "esc")
            typed = typed[sequence.end() :] if sequence else typed[1:]
            continue
        found.append(_NAMED.get(typed[0], typed[0] if typed[0].isprintable() else ""))
        typed = typed[1:]
    return [key for key in found if key]


def press(ui: Ui, key: str, frame: Frame) -> Pressed:
    """What follows from one key."""
    ui = replace(ui, note="") if ui.note else ui
    match ui.prompt:
        case "filter":
            return _typed(ui, key), None
        case "restart" | "stop" as what:
            return replace(ui, prompt=""), Act(what, ui.target) if key == "y" else None
        case "chaos":
            return _chaos(ui, key)
        case "quit":
            return _quit(ui, key)
        case _:
            return _plain(ui, key, frame)


def _typed(ui: Ui, key: str) -> Ui:
    """A key while a filter is typed."""
    text = ui.filter
    match key:
        case "enter":
            return replace(ui, prompt="")
        case "esc":
            return replace(ui, prompt="", filters=put(ui.filters, ui.pane, ""))
        case "backspace":
            text = text[:-1]
        case _ if len(key) == 1 and len(text) < FILTER_CHARS_MAX:
            text += key
    return replace(ui, filters=put(ui.filters, ui.pane, text))


def _quit(ui: Ui, key: str) -> Pressed:
    done = replace(ui, prompt="")
    return done, {"y": Leave(stop=True), "l": Leave()}.get(key)


_KINDS: dict[str, Fault] = {
    "k": "kill",
    "p": "pause",
    "l": "latency",
    "e": "error",
    "d": "drop",
    "u": "dup",
    "o": "reorder",
}
_LONGER = {"+": 1, "=": 1, "right": 1, "up": 1, "-": -1, "left": -1, "down": -1}


def _chaos(ui: Ui, key: str) -> Pressed:
    name, done = ui.target, replace(ui, prompt="")
    if key in _LONGER:
        step = max(0, min(ui.fault_for + _LONGER[key], len(FAULT_S) - 1))
        return replace(ui, fault_for=step), None
    if key in _KINDS:
        for_s = 0.0 if key == "k" else FAULT_S[ui.fault_for]
        return done, Break(_KINDS[key], name, for_s)
    if key == "x":
        return done, Act("mend", name)
    return (done if key in {"esc", "q", "n", "c"} else ui), None


_STEPS = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "pgup": -PAGE,
    "pgdn": PAGE,
    "home": -(10**9),
    "g": -(10**9),
    "end": 10**9,
    "G": 10**9,
}


def _plain(ui: Ui, key: str, frame: Frame) -> Pressed:
    if key in _STEPS:
        return _moved(ui, _STEPS[key], frame), None
    if key in _SIMPLE:
        return _SIMPLE[key](ui), None
    if key in _ASKING:
        return _ASKING[key](ui, frame)
    if key in _ACTS:
        return _act(ui, key, frame)
    return ui, None


_ACTS = frozenset("rxSc")


def _act(ui: Ui, key: str, frame: Frame) -> Pressed:
    name = listing.selected_service(frame, ui)
    if ui.read_only:
        return replace(ui, note="this screen is read-only"), None
    if not name:
        return replace(ui, note="no service is selected"), None
    ui = replace(ui, target=name, selected=put(ui.selected, SERVICES, name))
    match key:
        case "r":
            return replace(ui, prompt="restart"), None
        case "x":
            return replace(ui, prompt="stop"), None
        case "c":
            return replace(ui, prompt="chaos"), None
        case _:
            return ui, Act("start", name)


def _focused(ui: Ui, pane: int) -> Ui:
    below = ui.below if pane == SERVICES else pane
    return replace(ui, pane=pane, below=below, dialog="", scroll=0)


def _next(values: tuple[str, ...], value: str) -> str:
    return values[(values.index(value) + 1) % len(values)]


def _sorted(ui: Ui) -> Ui:
    if ui.pane == TRACES:
        return replace(ui, order=_next(ORDERS, ui.order), selected=put(ui.selected, TRACES, ""))
    return replace(ui, sort=_next(SORTS, ui.sort), reverse=False)


_SIMPLE: dict[str, Callable[[Ui], Ui]] = {
    "tab": lambda ui: _focused(ui, ui.pane % len(PANES) + 1),
    "right": lambda ui: _focused(ui, ui.pane % len(PANES) + 1),
    "backtab": lambda ui: _focused(ui, (ui.pane - 2) % len(PANES) + 1),
    "left": lambda ui: _focused(ui, (ui.pane - 2) % len(PANES) + 1),
    "/": lambda ui: replace(ui, prompt="filter", dialog=""),
    "?": lambda ui: replace(ui, dialog="" if ui.dialog == "help" else "help", scroll=0),
    "s": _sorted,
    "i": lambda ui: replace(ui, reverse=not ui.reverse),
    "e": lambda ui: replace(ui, errors_only=not ui.errors_only),
    "f": lambda ui: replace(ui, selected=put(put(ui.selected, EVENTS, ""), LOGS, ""), dialog=""),
    "w": lambda ui: replace(ui, wrap=not ui.wrap),
    "p": lambda ui: replace(ui, paused=not ui.paused),
    **{str(pane): partial(_focused, pane=pane) for pane in PANES},
}


def _moved(ui: Ui, step: int, frame: Frame) -> Ui:
    """The selection further down, or what cannot be selected scrolled."""
    if ui.dialog in {"help", "details"} or ui.pane not in {SERVICES, EVENTS, TRACES, LOGS}:
        return replace(ui, scroll=max(0, min(ui.scroll + step, SCROLL_MAX)))
    if ui.pane == TRACES and ui.opened:
        return replace(ui, scroll=max(0, min(ui.scroll + step, SCROLL_MAX)))
    found = listing.listed(frame, ui, ui.pane)
    if not found:
        return ui
    at = max(0, min(listing.place(found, ui, ui.pane) + step, len(found) - 1))
    flows = ui.pane in {EVENTS, LOGS}
    key = "" if flows and at == len(found) - 1 else listing.KEYS[ui.pane](found[at])
    return replace(ui, selected=put(ui.selected, ui.pane, key))


SCROLL_MAX = 200
"""Rows: further than any dialog or waterfall reaches."""


def _enter(ui: Ui, frame: Frame) -> Pressed:
    if ui.dialog:
        return replace(ui, dialog=""), None
    match ui.pane:
        case 3 if listing.selected_event(frame, ui):
            return replace(_held(ui, frame), dialog="event", scroll=0), None
        case 4 if found := listing.selected_trace(frame, ui):
            return replace(ui, opened=found.trace_id, scroll=0), Open(found.trace_id)
        case 5 if listing.selected_line(frame, ui):
            return replace(_held(ui, frame), dialog="line", scroll=0), None
        case 1 if name := listing.selected_service(frame, ui):
            return replace(_held(ui, frame), dialog="details", scroll=0), Explain(name)
        case _:
            return ui, None


def _held(ui: Ui, frame: Frame) -> Ui:
    """What is selected stays so, wherever it moves."""
    found = listing.listed(frame, ui, ui.pane)
    key = listing.KEYS[ui.pane](found[listing.place(found, ui, ui.pane)])
    return replace(ui, selected=put(ui.selected, ui.pane, key))


def _back(ui: Ui) -> Ui:
    """One step back: a dialog, a waterfall, a filter, what else narrows the list."""
    if ui.dialog:
        return replace(ui, dialog="", scroll=0)
    if ui.pane == TRACES and ui.opened:
        return replace(ui, opened="", scroll=0)
    if ui.filter:
        return replace(ui, filters=put(ui.filters, ui.pane, ""))
    if ui.pane == LOGS:
        return replace(ui, logs_of="", trace_of="")
    if ui.pane == TRACES:
        return replace(ui, traces_of="")
    return replace(ui, errors_only=False)


def _logs(ui: Ui, frame: Frame) -> Ui:
    """The logs of what is selected: of a service, of a trace; in the logs themselves of all."""
    seen = replace(_focused(ui, LOGS), selected=put(ui.selected, LOGS, ""), trace_of="")
    match ui.pane:
        case 5:
            of = "" if ui.logs_of or ui.trace_of else listing.selected_service(frame, ui)
            return replace(seen, logs_of=of)
        case 4:
            found = listing.selected_trace(frame, ui)
            traced = ui.opened or (found.trace_id if found else "")
            return replace(seen, logs_of="", trace_of=traced)
        case 3:
            told = listing.selected_event(frame, ui)
            return replace(seen, logs_of=told.stream if told else "")
        case _:
            return replace(seen, logs_of=listing.selected_service(frame, ui))


def _traces(ui: Ui, frame: Frame) -> Pressed:
    """The traces of a service, or the one trace of an event or a log line."""
    seen = replace(_focused(ui, TRACES), opened="")
    if ui.pane in {EVENTS, LOGS}:
        chosen = listing.selected_event if ui.pane == EVENTS else listing.selected_line
        found = chosen(frame, ui)
        if found is None or not found.trace_id:
            return replace(ui, note="it tells of no trace"), None
        picked = put(ui.selected, TRACES, found.trace_id)
        return replace(seen, opened=found.trace_id, selected=picked), Open(found.trace_id)
    of = "" if ui.traces_of and ui.pane == TRACES else listing.selected_service(frame, ui)
    return replace(seen, traces_of=of), None


_ASKING: dict[str, Callable[[Ui, Frame], Pressed]] = {
    "enter": _enter,
    "esc": lambda ui, _: (_back(ui), None),
    "l": lambda ui, frame: (_logs(ui, frame), None),
    "t": _traces,
    "q": lambda ui, _: (replace(ui, prompt="quit"), None) if ui.owner else (ui, Leave()),
}
