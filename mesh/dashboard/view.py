"""A frame and what the person has chosen, as a picture of exactly the size asked for; pure.

From 110x32 on all panes at once; below it the services and one pane; below 60x15 just the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.dashboard import flow, footer, header, listing, services, topology, traces
from mesh.dashboard.picture import ASCII, UNICODE, Picture, boxed, exact, fit, rate, safe
from mesh.dashboard.timeline import duration
from mesh.dashboard.ui import EVENTS, LOGS, SERVICES, TOPOLOGY, TRACES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.dashboard.frame import Frame
    from mesh.dashboard.picture import Look, Piece, Row
    from mesh.dashboard.ui import Ui
    from mesh.tracing.waterfall import Waterfall

WIDE_COLUMNS, WIDE_ROWS = 110, 32
BOXED_COLUMNS, BOXED_ROWS = 60, 15

PANE_ROWS_MIN = 4
EDGES = 2
"""Rows of a box that are its frame; its sides take as many cells again as blanks."""

DETAIL_LINES_MAX = 40


def view(frame: Frame, ui: Ui, width: int, height: int) -> Picture:
    """The screen."""
    look = ASCII if ui.ascii else UNICODE
    if width >= WIDE_COLUMNS and height >= WIDE_ROWS:
        rows = _wide(frame, ui, width, height, look)
    elif width >= BOXED_COLUMNS and height >= BOXED_ROWS:
        rows = _narrow(frame, ui, width, height, look)
    else:
        rows = _bare(frame, ui, width, height, look)
    blank: Row = ((" " * width, "plain"),)
    return Picture(width, tuple([*rows, *[blank] * (height - len(rows))][:height]))


def _bare(frame: Frame, ui: Ui, width: int, height: int, look: Look) -> list[Row]:
    """Just the table; the first and the last row where there is room for them."""
    top = header.rows(frame, ui, width, 1, look) if height > 3 else []  # noqa: PLR2004
    bottom = [footer.row(ui, width, look)] if height > 5 or ui.prompt else []  # noqa: PLR2004
    room = height - len(top) - len(bottom)
    if ui.dialog:
        body = _dialog_rows(frame, ui, width, room, look)[1]
    else:
        body = services.table(frame, ui, width, room, look)
    blank: Row = ((" " * width, "plain"),)
    body = [*body, *[blank] * (room - len(body))][: max(0, room)]
    return [*top, *body, *bottom]


def _narrow(frame: Frame, ui: Ui, width: int, height: int, look: Look) -> list[Row]:
    top = header.rows(frame, ui, width, 2, look)
    left = height - len(top) - 1
    table = min(len(frame.status.services) + EDGES + 1, left - PANE_ROWS_MIN)
    rows = [*top, *_services(frame, ui, width, table, look)]
    rest = left - table
    if ui.dialog:
        rows += _dialog(frame, ui, width, rest, look)
    else:
        rows += _pane(frame, ui, ui.below, width, rest, look)
    return [*rows, footer.row(ui, width, look)]


def _wide(frame: Frame, ui: Ui, width: int, height: int, look: Look) -> list[Row]:
    top = header.rows(frame, ui, width, 2, look)
    table = min(len(frame.status.services) + EDGES + 1, height // 3)
    rows = [*top, *_services(frame, ui, width, table, look)]
    rest = height - len(rows) - 1
    if ui.dialog:
        rows += _dialog(frame, ui, width, rest, look)
        return [*rows, footer.row(ui, width, look)]
    weights = {"middle": 5, "traces": 4, "logs": 4}
    grown = {TRACES: "traces", LOGS: "logs", EVENTS: "middle", TOPOLOGY: "middle"}.get(ui.pane)
    if grown:
        weights[grown] += 8 if ui.opened and ui.pane == TRACES else 3
    whole = sum(weights.values())
    middle = rest * weights["middle"] // whole
    traced = rest * weights["traces"] // whole
    left = width * 9 // 20
    one = _pane(frame, ui, TOPOLOGY, left, middle, look)
    two = _pane(frame, ui, EVENTS, width - left, middle, look)
    rows += [(*a, *b) for a, b in zip(one, two, strict=True)]
    rows += _pane(frame, ui, TRACES, width, traced, look)
    rows += _pane(frame, ui, LOGS, width, rest - middle - traced, look)
    return [*rows, footer.row(ui, width, look)]


def _services(frame: Frame, ui: Ui, width: int, height: int, look: Look) -> list[Row]:
    whole = len(frame.status.services)
    shown = len(listing.services(frame, ui))
    words = f"  {shown} of {whole}  sort {ui.sort}{' reversed' if ui.reverse else ''}"
    return boxed(
        [*_title("1 services", ui, SERVICES), (words + _filtered(ui, SERVICES, look), "faint")],
        services.table(frame, ui, width - 4, height - EDGES, look),
        width,
        height,
        look,
        focused=ui.pane == SERVICES,
    )


def _title(word: str, ui: Ui, pane: int) -> list[Piece]:
    return [(word, "strong" if ui.pane == pane else "plain")]


def _filtered(ui: Ui, pane: int, look: Look) -> str:
    found = ui.filters[pane - 1]
    return f"  /{safe(found, look)}" if found else ""


_ROWS: dict[int, Callable[[Frame, Ui, int, int, Look], list[Row]]] = {
    TOPOLOGY: topology.rows,
    EVENTS: flow.events,
    TRACES: traces.rows,
    LOGS: flow.logs,
}


def _pane(frame: Frame, ui: Ui, pane: int, width: int, height: int, look: Look) -> list[Row]:
    return boxed(
        _pane_title(frame, ui, pane, look),
        _ROWS[pane](frame, ui, width - 4, max(0, height - EDGES), look),
        width,
        height,
        look,
        focused=ui.pane == pane,
    )


def _pane_title(frame: Frame, ui: Ui, pane: int, look: Look) -> list[Piece]:
    more = ""
    match pane:
        case 2:
            word = "2 topology"
        case 3:
            word = "3 events"
            rates = [each.per_s for each in frame.streams if each.per_s is not None]
            more = f"  {rate(sum(rates))}/s" if rates else ""
            more += f"  {frame.told[-1].arrival} in all" if frame.told else ""
            more += "" if ui.selected[EVENTS - 1] else "  follow"
        case 4:
            word = "4 traces"
            if ui.opened and frame.waterfall is not None and frame.waterfall.rows:
                return _waterfall_title(frame.waterfall, look)
            more = f"  {ui.order}" + (f"  of {safe(ui.traces_of, look)}" if ui.traces_of else "")
        case _:
            word = "5 logs"
            more = f"  {safe(ui.logs_of, look)}" if ui.logs_of else "  all"
            more += f"  of trace {safe(ui.trace_of[:8], look)}" if ui.trace_of else ""
            more += "  WARN+" if ui.errors_only else ""
            more += "" if ui.selected[LOGS - 1] else "  follow"
            more += "  wrap" if ui.wrap else ""
    return [*_title(word, ui, pane), (more + _filtered(ui, pane, look), "faint")]


def _waterfall_title(found: Waterfall, look: Look) -> list[Piece]:
    failed = next((row.span.status for row in found.rows if row.span.status), "")
    root = found.rows[0]
    return [
        (f"4 trace {safe(found.trace_id[:8], look)} ", "strong"),
        (f" {safe(root.label, look)}  {duration(found.length_us)}  ", "plain"),
        (safe(failed, look) if failed else "ok", "bad" if failed else "good"),
        (f"  {len(found.rows)} spans", "faint"),
    ]


def _dialog(frame: Frame, ui: Ui, width: int, height: int, look: Look) -> list[Row]:
    title, rows = _dialog_rows(frame, ui, width - 4, max(0, height - EDGES), look)
    return boxed([(title, "strong")], rows, width, height, look, focused=True)


def _dialog_rows(
    frame: Frame, ui: Ui, width: int, rows_max: int, look: Look
) -> tuple[str, list[Row]]:
    match ui.dialog:
        case "help":
            return "keys", _help(ui, width, rows_max, look)
        case "event":
            told = listing.selected_event(frame, ui)
            facts = [] if told is None else flow.event_details(told, listing.marks(frame, told))
            return "event", flow.titled(facts, width, rows_max, look)
        case "line":
            line = listing.selected_line(frame, ui)
            facts = [] if line is None else flow.line_details(line)
            return "log line", flow.titled(facts, width, rows_max, look)
        case _:
            return _details(frame, ui, width, rows_max, look)


def _details(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> tuple[str, list[Row]]:
    """Why the selected service is in its state."""
    name = listing.selected_service(frame, ui)
    found = frame.details
    if found is None or found.name != name:
        return safe(name, look), [exact([("asking it", "faint")], width, look)]
    edge = max((len(title) for title, _ in found.facts), default=0) + 2
    rows = [
        exact(
            [
                (fit(title, edge, look), "faint"),
                *(
                    (safe(p, look), "plain") if isinstance(p, str) else (safe(p[0], look), p[1])
                    for p in parts
                ),
            ],
            width,
            look,
        )
        for title, parts in found.facts
    ]
    if found.lines:
        rows.append(exact([("last lines", "faint")], width, look))
    rows += [exact([("  " + safe(each, look), "plain")], width, look) for each in found.lines]
    first = min(ui.scroll, max(0, len(rows) - rows_max))
    return safe(name, look), rows[first : first + rows_max]


def _help(ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """The keys, in as many columns as they need."""
    keys = [each for each in footer.KEYS if each.help and not (each.destructive and ui.read_only)]
    shown = [f"{each.key:>5}  {each.word:<9} {each.help}" for each in keys]
    short = [f"{each.key:>5}  {each.word}" for each in keys]
    if len(shown) > rows_max:
        columns = -(-len(short) // max(1, rows_max))
        cell = width // columns
        shown = [
            "".join(fit(each, cell, look) for each in short[at :: max(1, rows_max)])
            for at in range(min(rows_max, len(short)))
        ]
    return [exact([(fit(each, width, look), "plain")], width, look) for each in shown[:rows_max]]
