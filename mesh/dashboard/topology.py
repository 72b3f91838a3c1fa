"""Who asks whom, and who tells whom: rates, waits, breakers and lag; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.dashboard.picture import exact, fit, ms, percent, rate, safe
from mesh.dashboard.services import ERROR_PERCENT_BAD, P99_MS_SLOW
from mesh.dashboard.ui import TOPOLOGY

if TYPE_CHECKING:
    from mesh.dashboard.frame import Follower, Frame, Stream
    from mesh.dashboard.picture import Look, Piece, Row, Tone
    from mesh.dashboard.ui import Ui
    from mesh.figures import Asks

BREAKERS: dict[str, Tone] = {"closed": "good", "half-open": "warn", "open": "bad"}
FIGURE_CELLS = 7
STREAM_CELLS_MAX = 20


def rows(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """First who asks whom, then who tells whom; `ui.scroll` rows further down."""
    asks = [(row.name, each) for row in frame.status.services for each in row.asks or ()]
    needle = ui.filters[TOPOLOGY - 1].lower()
    asks = [(name, each) for name, each in asks if needle in f"{name} {each.callee}".lower()]
    streams = [each for each in frame.streams if needle in each.name.lower()]
    if ui.errors_only:
        asks = [(name, each) for name, each in asks if _wrong(each)]
        streams = [each for each in streams if any(one.lag for one in each.followers)]
    found: list[Row] = []
    edge = max(
        [len(name) + len(each.callee) + len(look.arrow) + 2 for name, each in asks] + [12],
    )
    edge = min(edge, max(8, width - 4 * FIGURE_CELLS - 4))
    if asks:
        heads = "".join(fit(each, FIGURE_CELLS, look, right=True) for each in _ASK_HEADS)
        found.append(exact([(fit("ASKS", edge, look) + heads + "  BREAKER", "faint")], width, look))
    found += [_asks(name, each, edge, width, look) for name, each in asks]
    if streams:
        heads = fit("/S", FIGURE_CELLS, look, right=True)
        name = _name_cells(streams)
        head = fit("TELLS", name, look) + heads + "  HEARD BY, LAG"
        found.append(exact([(head, "faint")], width, look))
    found += [_tells(frame, each, _name_cells(streams), width, look) for each in streams]
    if not found:
        said = "nobody has asked or told anything yet"
        found.append(exact([(fit(said, width, look), "faint")], width, look))
    first = min(ui.scroll, max(0, len(found) - rows_max))
    return found[first : first + rows_max]


_ASK_HEADS = ("REQ/S", "P99", "ERR%")


def _name_cells(streams: list[Stream]) -> int:
    return min(STREAM_CELLS_MAX, max(len(each.name) for each in streams))


def _wrong(asks: Asks) -> bool:
    return bool(asks.error_percent) or asks.breaker in {"open", "half-open"}


def _asks(name: str, asks: Asks, edge: int, width: int, look: Look) -> Row:
    errors = asks.error_percent or 0
    slow = (asks.p99_ms or 0) >= P99_MS_SLOW
    breaker = asks.breaker or "-"
    shown = breaker.upper() if breaker not in {"closed", "-"} else breaker
    return exact(
        [
            (fit(f"{name} {look.arrow} {asks.callee}", edge, look), "plain"),
            (fit(rate(asks.requests_per_s), FIGURE_CELLS, look, right=True), "plain"),
            (fit(ms(asks.p99_ms), FIGURE_CELLS, look, right=True), "warn" if slow else "plain"),
            (
                fit(percent(asks.error_percent), FIGURE_CELLS, look, right=True),
                "bad" if errors >= ERROR_PERCENT_BAD else "warn" if errors else "plain",
            ),
            ("  " + safe(shown, look), BREAKERS.get(breaker, "faint")),
        ],
        width,
        look,
    )


def _tells(frame: Frame, stream: Stream, name: int, width: int, look: Look) -> Row:
    pieces: list[Piece] = [
        (fit(stream.name, name, look), "plain"),
        (fit(rate(stream.per_s), FIGURE_CELLS, look, right=True), "plain"),
        (f"  {look.tell} " if stream.followers else "  nobody", "faint"),
    ]
    for number, each in enumerate(stream.followers):
        pieces.append((("  " if number else "") + safe(each.name, look) + " ", "plain"))
        pieces.append((str(each.lag), "warn" if each.lag else "good"))
        if parked := _parked(frame, stream, each):
            pieces.append((f" {parked} parked", "bad"))
    return exact(pieces, width, look)


def _parked(frame: Frame, stream: Stream, follower: Follower) -> int:
    return sum(1 for name, told, _ in frame.parked if name == follower.name and told == stream.name)
