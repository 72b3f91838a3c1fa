"""Events as they come, with who has applied them, and log lines; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import text
from mesh.dashboard import listing
from mesh.dashboard.picture import CHARS_A_CELL, clock_time, exact, fit, safe, selected, wrapped
from mesh.dashboard.ui import EVENTS, LOGS
from mesh.text import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.dashboard.frame import Frame, LogLine, Told
    from mesh.dashboard.picture import Look, Piece, Row, Tone
    from mesh.dashboard.ui import Ui

MARKS: dict[str, Tone] = {"+": "good", "-": "warn", "x": "bad"}

LEVELS: dict[str | None, Tone] = {
    "debug": "faint",
    "info": "good",
    "warning": "warn",
    "error": "bad",
    "critical": "bad",
}
SHORT = {"warning": "WARN", "critical": "CRIT"}

LEVEL_CELLS = 5
NAME_CELLS_MAX = 10
SUBJECT_CELLS = 10
SHORT_NAME_CHARS = 3
WRAPPED_ROWS_MAX = 8


def hue(frame: Frame, name: str) -> Tone:
    """The colour of a service's name, the same everywhere on the screen."""
    return text.hue(name, [row.name for row in frame.status.services])


def short_id(value: str, width: int, look: Look) -> str:
    """An id by its kind and its end: ids of one moment begin alike."""
    if len(value) <= width:
        return fit(value, width, look)
    kind, _, rest = value.partition("_")
    kind = f"{kind}_" if rest and len(kind) < 5 else ""  # noqa: PLR2004  (`usr_`, `ord_`)
    tail = max(0, width - len(kind) - len(look.end))
    return fit(kind + look.end + value[len(value) - tail :], width, look)


def events(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """The events around the selected one, oldest first."""
    found = listing.events(frame, ui)
    if not found:
        said = "nothing has been told yet: mesh call order create"
        return [exact([(fit(said, width, look), "faint")], width, look)]
    at = listing.place(found, ui, EVENTS)
    shown = [found[index] for index in listing.window(len(found), at, rows_max)]
    type_cells = min(max(len(each.type) for each in shown), max(12, width * 2 // 5))
    source_cells = min(max(len(each.stream) for each in shown), NAME_CELLS_MAX)
    rows = []
    for each in shown:
        pieces: list[Piece] = [
            (clock_time(each.at_ms), "faint"),
            (" " + fit(each.type, type_cells, look), "plain"),
            (" " + fit(each.stream, source_cells, look), hue(frame, each.stream)),
            (" " + short_id(each.subject, SUBJECT_CELLS, look), "plain"),
        ]
        row = exact([*pieces, *_marks(frame, each, width - _cells(pieces), look)], width, look)
        chosen = ui.pane == EVENTS and each is found[at]
        rows.append(selected(row) if chosen else row)
    return rows


def _cells(pieces: Sequence[Piece]) -> int:
    return sum(cells(piece) for piece, _ in pieces)


def _marks(frame: Frame, told: Told, width: int, look: Look) -> list[Piece]:
    """` order+ user-`; names are cut short where there is no room for them."""
    marks = listing.marks(frame, told)
    names = [safe(name, look) for name in marks]
    short = sum(cells(name) + 2 for name in names) > width
    pieces: list[Piece] = []
    for name, mark in zip(names, marks.values(), strict=True):
        shown = name[:SHORT_NAME_CHARS] if short else name
        pieces += [(f" {shown}", "faint"), (mark, MARKS[mark])]
    return pieces


def logs(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """The lines around the selected one, oldest first; wrapped, the last ones from the bottom."""
    found = listing.logs(frame, ui)
    if not found:
        said = "nothing has been logged" + (" that matches" if frame.logs else "")
        return [exact([(fit(said, width, look), "faint")], width, look)]
    at = listing.place(found, ui, LOGS)
    names = max((len(row.name) for row in frame.status.services), default=0)
    name_cells = 0 if ui.logs_of else min(names, NAME_CELLS_MAX)
    if not ui.wrap:
        return [
            _line(frame, ui, found[index], name_cells, width, look, chosen=index == at)
            for index in listing.window(len(found), at, rows_max)
        ]
    rows: list[Row] = []
    for index in range(at, -1, -1):
        rows[:0] = _wrapped(frame, ui, found[index], name_cells, width, look, chosen=index == at)
        if len(rows) >= rows_max:
            break
    return rows[-rows_max:] if rows_max else []


def _head(frame: Frame, line: LogLine, name_cells: int, look: Look) -> list[Piece]:
    level = SHORT.get(line.level or "", (line.level or "-").upper())
    pieces: list[Piece] = [
        (clock_time(line.at_ms), "faint"),
        (" " + fit(level, LEVEL_CELLS, look) + " ", LEVELS.get(line.level, "faint")),
    ]
    if name_cells:
        pieces.append((fit(line.service, name_cells, look) + " ", hue(frame, line.service)))
    return pieces


def _line(
    frame: Frame, ui: Ui, line: LogLine, name_cells: int, width: int, look: Look, *, chosen: bool
) -> Row:
    pieces = _head(frame, line, name_cells, look)
    room = width * CHARS_A_CELL
    bad = LEVELS.get(line.level) == "bad"
    pieces.append((safe(line.message[:room], look), "bad" if bad else "plain"))
    if line.facts:
        pieces.append(("  " + safe(line.facts[:room], look), "faint"))
    row = exact(pieces, width, look)
    return selected(row) if chosen and ui.pane == LOGS else row


def _wrapped(
    frame: Frame, ui: Ui, line: LogLine, name_cells: int, width: int, look: Look, *, chosen: bool
) -> list[Row]:
    head = _head(frame, line, name_cells, look)
    indent = _cells(head)
    said = f"{line.message}  {line.facts}" if line.facts else line.message
    rows = []
    for part in wrapped(said, width - indent, look, WRAPPED_ROWS_MAX) or [""]:
        row = exact([*head, (part, "plain")], width, look)
        rows.append(selected(row) if chosen and ui.pane == LOGS else row)
        head = [(" " * indent, "plain")]
    return rows


def event_details(told: Told, marks: dict[str, str]) -> list[tuple[str, str]]:
    """Title and text of everything known of one event."""
    words = {"+": "applied", "-": "pending", "x": "parked"}
    heard = ", ".join(f"{name} {words[mark]}" for name, mark in marks.items())
    return [
        ("type", told.type),
        ("place", f"{told.stream}#{told.sequence} epoch {told.epoch}, arrival {told.arrival}"),
        ("time", clock_time(told.at_ms)),
        ("subject", told.subject),
        ("id", told.id),
        ("trace", told.trace_id or "-"),
        ("heard by", heard or "nobody"),
        ("data", told.body),
    ]


def line_details(line: LogLine) -> list[tuple[str, str]]:
    """Title and text of everything known of one log line."""
    return [
        ("service", line.service),
        ("time", clock_time(line.at_ms)),
        ("level", line.level or "-"),
        ("trace", line.trace_id or "-"),
        ("message", line.message),
        ("facts", line.facts or "-"),
    ]


def titled(rows: Sequence[tuple[str, str]], width: int, rows_max: int, look: Look) -> list[Row]:
    """Titles with their text, wrapped under one another."""
    found: list[Row] = []
    edge = min(max((len(title) for title, _ in rows), default=0) + 2, max(0, width // 3))
    for title, value in rows:
        parts = wrapped(value, width - edge, look, rows_max) or [""]
        for number, part in enumerate(parts):
            left = fit(title if not number else "", edge, look)
            found.append(exact([(left, "faint"), (part, "plain")], width, look))
    return found[:rows_max]
