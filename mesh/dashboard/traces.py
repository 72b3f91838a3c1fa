"""Traces: the list, or the one that was opened as a waterfall; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.dashboard import listing, timeline
from mesh.dashboard.flow import hue
from mesh.dashboard.picture import clock_time, exact, fit, safe, selected
from mesh.dashboard.ui import TRACES

if TYPE_CHECKING:
    from mesh.dashboard.frame import Frame
    from mesh.dashboard.picture import Look, Piece, Row, Tone
    from mesh.dashboard.ui import Ui
    from mesh.tracing.stories import Summary

US_PER_MS = 1_000
ID_CELLS = 8
NAME_CELLS = 8
TRIES_CELLS = 8
FIGURE_CELLS = 8
SPANS_CELLS = 10


def rows(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """The waterfall that was opened, else the list around the selected trace."""
    if ui.opened and frame.waterfall is not None and frame.waterfall.trace_id == ui.opened:
        marks = timeline.ASCII if look.ascii else timeline.UNICODE
        lines = timeline.lines(frame.waterfall, width=width, marks=marks)
        first = min(ui.scroll, max(0, len(lines) - rows_max))
        return [
            exact([_piece(part, look) for part in line], width, look)
            for line in lines[first : first + rows_max]
        ]
    found = listing.traces(frame, ui)
    if not found:
        said = "no trace matches" if frame.traces else "no traces yet: mesh call order create"
        return [exact([(fit(said, width, look), "faint")], width, look)]
    at = listing.place(found, ui, TRACES)
    lines_ = []
    for index in listing.window(len(found), at, rows_max):
        row = _listed(frame, found[index], width, look)
        lines_.append(selected(row) if ui.pane == TRACES and index == at else row)
    return lines_


def _piece(part: str | tuple[str, Tone], look: Look) -> Piece:
    value, tone = part if isinstance(part, tuple) else (part, "plain")
    return (safe(value, look), tone)


def _listed(frame: Frame, each: Summary, width: int, look: Look) -> Row:
    bad: Tone = "bad" if each.error else "plain"
    tries = f"+{each.retries} tries" if each.retries else ""
    took = timeline.duration(each.duration_us)
    return exact(
        [
            (clock_time(each.start_us // US_PER_MS), "faint"),
            (" " + fit(each.trace_id[:ID_CELLS], ID_CELLS, look), "faint"),
            (" " + fit(each.service, NAME_CELLS, look), hue(frame, each.service)),
            (" " + ("ERROR" if each.error else "ok   "), "bad" if each.error else "good"),
            (fit(took, FIGURE_CELLS, look, right=True), bad),
            (fit(f"{each.spans} spans", SPANS_CELLS, look, right=True), "faint"),
            (" " + fit(tries, TRIES_CELLS, look), "warn"),
            (" " + safe(each.root, look), bad),
            ("  " + safe(each.error, look), "bad"),
            ("  " + safe(" ".join(each.services), look), "faint"),
        ],
        width,
        look,
    )
