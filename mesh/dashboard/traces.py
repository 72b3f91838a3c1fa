"""Traces: the list, and one of them as a waterfall with its critical path; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.dashboard import listing
from mesh.dashboard.flow import hue
from mesh.dashboard.picture import clock_time, exact, fit, ms, safe, selected
from mesh.dashboard.ui import TRACES

if TYPE_CHECKING:
    from mesh.dashboard.frame import Bar, Frame, Incident, Waterfall
    from mesh.dashboard.picture import Look, Piece, Row, Tone
    from mesh.dashboard.ui import Ui

NAME_CELLS_MAX = 44
FIGURE_CELLS = 8
NOTE_GAP_CELLS = 3


def rows(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """The waterfall that was opened, else the list around the selected trace."""
    if ui.opened and frame.waterfall is not None and frame.waterfall.trace.id == ui.opened:
        return waterfall(frame, frame.waterfall, ui, width, rows_max, look)
    found = listing.traces(frame, ui)
    if not found:
        said = "no trace matches" if frame.traces else "no traces yet: mesh call order create"
        return [exact([(fit(said, width, look), "faint")], width, look)]
    at = listing.place(found, ui, TRACES)
    lines = []
    for index in listing.window(len(found), at, rows_max):
        each = found[index]
        bad: Tone = "plain" if each.ok else "bad"
        row = exact(
            [
                (clock_time(each.at_ms), "faint"),
                (" " + each.id[:8], "faint"),
                (" " + fit(each.service, 8, look), hue(frame, each.service)),
                (" " + fit("ok" if each.ok else "ERROR", 5, look), "good" if each.ok else "bad"),
                (fit(ms(each.duration_ms), FIGURE_CELLS, look, right=True), bad),
                (fit(f"{each.spans} spans", 10, look, right=True), "faint"),
                ("  " + safe(each.name, look), bad),
                ("  " + safe(" ".join(each.services), look), "faint"),
            ],
            width,
            look,
        )
        lines.append(selected(row) if ui.pane == TRACES and index == at else row)
    return lines


def waterfall(
    frame: Frame, found: Waterfall, ui: Ui, width: int, rows_max: int, look: Look
) -> list[Row]:
    """Spans as bars on one axis, incidents among them where they fell."""
    longest = max((each.depth + len(_label(each)) for each in found.bars), default=0)
    name = max(0, min(longest, NAME_CELLS_MAX, width // 2))
    axis = max(1, width - name - FIGURE_CELLS - 1)
    whole = max(found.trace.duration_ms, *(b.start_ms + b.duration_ms for b in found.bars), 0.001)
    lines = [_incident(each, name, axis, whole, width, look) for each in found.incidents]
    lines += [_bar(frame, each, name, axis, whole, width, look) for each in found.bars]
    first = min(ui.scroll, max(0, len(lines) - rows_max))
    return lines[first : first + rows_max]


def _label(bar: Bar) -> str:
    return f"{bar.service} {bar.name}"


def _span(start_ms: float, duration_ms: float, axis: int, whole: float) -> tuple[int, int]:
    """Where a bar begins on the axis, and its cells: at least one, and never beyond its end."""
    start = max(0, min(round(start_ms / whole * axis), axis - 1))
    return start, max(1, min(round(duration_ms / whole * axis), axis - start))


def _bar(frame: Frame, bar: Bar, name: int, axis: int, whole: float, width: int, look: Look) -> Row:
    start, length = _span(bar.start_ms, bar.duration_ms, axis, whole)
    tone: Tone = "bad" if not bar.ok else "strong" if bar.critical else hue(frame, bar.service)
    kind = 2 if bar.waiting else 0 if bar.critical else 1
    indent = min(bar.depth, name // 2)
    rest = axis - start - length
    said = safe(bar.note or ("" if bar.ok else "error"), look)
    after = before = ""
    if said and rest > NOTE_GAP_CELLS + len(said):
        after = " " + said
    elif said and start > len(said) + 1:
        before = said + " "
    pieces: list[Piece] = [
        (" " * indent, "plain"),
        (fit(_label(bar), name - indent, look), "bad" if not bar.ok else "plain"),
        (fit(before, start, look, right=True), "warn"),
        (look.bars[kind] * length, tone),
        (fit(after, rest, look), "warn"),
        (fit(ms(bar.duration_ms), FIGURE_CELLS, look, right=True), "plain"),
    ]
    return exact(pieces, width, look)


def _incident(
    incident: Incident, name: int, axis: int, whole: float, width: int, look: Look
) -> Row:
    start, _ = _span(incident.at_ms, 0, axis, whole)
    said = safe(incident.text, look)
    at_left = len(said) + 2 > axis - start
    mark: list[Piece] = (
        [(fit(said + " !", start + 1, look, right=True), "magenta")]
        if at_left
        else [(" " * start + "! " + said, "magenta")]
    )
    return exact([(fit("incident", name, look), "magenta"), *mark], width, look)
