"""The table of services: as many columns as fit, the least needed ones left out first; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesh.dashboard import listing
from mesh.dashboard.picture import exact, fit, ms, percent, rate, selected, size, spark
from mesh.dashboard.ui import SERVICES
from mesh.figures import HISTORY_S
from mesh.text import age

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesh.dashboard.frame import Frame
    from mesh.dashboard.picture import Look, Piece, Row, Tone
    from mesh.dashboard.ui import Ui
    from mesh.orchestrator.contract import ProgramStatus

TONES: dict[str, Tone] = {
    "ready": "good",
    "degraded": "warn",
    "backoff": "magenta",
    "starting": "cyan",
    "stopping": "cyan",
    "failed": "bad",
    "stopped": "faint",
}

ERROR_PERCENT_BAD = 1.0
P99_MS_SLOW = 250.0
"""From here on a figure is coloured: of a hundred callers one waits long enough to notice."""

NAME_CELLS_MIN, NAME_CELLS_MAX = 6, 24
SPARK_CELLS_MIN, SPARK_CELLS_MAX = 12, HISTORY_S
NOTE_CELLS_MIN = 14
_SAY_NOTHING = {None, "asked", "ready"}

WHY_PRIORITY = 7
"""What is wrong is worth more than a port."""


class Column(NamedTuple):
    """`sort` is the sorting that its title shows; the lowest `priority` gives way first."""

    title: str
    width: int
    priority: int
    cell: Callable[[ProgramStatus], Piece]
    sort: str = ""


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _lag(row: ProgramStatus) -> Piece:
    return (_count(row.lag), "warn" if row.lag else "plain")


def _errors(row: ProgramStatus) -> Piece:
    bad = (row.error_percent or 0) >= ERROR_PERCENT_BAD
    return (percent(row.error_percent), "bad" if bad else "warn" if row.error_percent else "plain")


def _p99(row: ProgramStatus) -> Piece:
    return (ms(row.p99_ms), "warn" if (row.p99_ms or 0) >= P99_MS_SLOW else "plain")


def _cpu(row: ProgramStatus) -> Piece:
    value = row.cpu_percent
    return ("-" if value is None else f"{value:.0f}", "plain")


_COLUMNS = (
    Column("PID", 7, 2, lambda row: (_count(row.pid), "plain")),
    Column("PORT", 5, 5, lambda row: (_count(row.port), "plain")),
    Column("UP", 6, 1, lambda row: (age(row.uptime_s), "plain")),
    Column("CPU%", 5, 5, _cpu, "cpu"),
    Column("MEM", 5, 4, lambda row: (size(row.rss_bytes), "plain"), "memory"),
    Column("REQ/S", 6, 9, lambda row: (rate(row.requests_per_s), "plain"), "req/s"),
    Column("60 S", SPARK_CELLS_MIN, 3, lambda _: ("", "cyan")),
    Column("P50", 6, 4, lambda row: (ms(row.p50_ms), "plain")),
    Column("P99", 6, 9, _p99, "p99"),
    Column("ERR%", 5, 9, _errors, "err%"),
    Column("RST", 4, 7, lambda row: (_count(row.restarts), "plain"), "restarts"),
    Column("LAG", 5, 8, _lag, "lag"),
)


def note(row: ProgramStatus) -> Piece:
    """What is being done to it on purpose, else why it is in a state that does not explain itself."""
    if row.faults:
        told = ", ".join(f"{each.kind} {age(each.left_s)}" for each in row.faults)
        return (told, "magenta")
    if row.state in {"ready", "stopped", row.cause} or row.cause in _SAY_NOTHING:
        return ("", "plain")
    return (row.cause or "", TONES.get(row.state, "plain"))


class _Plan(NamedTuple):
    """How wide everything is; 0 for what is left out."""

    columns: tuple[Column, ...]
    name: int
    state: int
    spark: int
    note: int


def _planned(rows: Sequence[ProgramStatus], width: int) -> _Plan:
    """Which columns fit, and who gets the rest."""
    longest = max((len(row.name) for row in rows), default=0)
    name = max(NAME_CELLS_MIN, min(longest, NAME_CELLS_MAX)) + 1
    state = max((len(row.state) for row in rows), default=0)
    wanted = max((len(note(row)[0]) for row in rows), default=0)
    told = min(max(wanted, NOTE_CELLS_MIN), 2 * NOTE_CELLS_MIN) if wanted else 0
    columns = list(_COLUMNS)

    def taken() -> int:
        fixed = 4 + name + 1 + state + (1 + told if told else 0)
        return fixed + sum(column.width + 1 for column in columns)

    while columns and taken() > width:
        lowest = min(column.priority for column in columns)
        if told and lowest > WHY_PRIORITY:
            told = 0
            continue
        columns.remove(next(c for c in reversed(columns) if c.priority == lowest))
    spare = max(0, width - taken())
    drawn = any(column.title == "60 S" for column in columns)
    bars = min(SPARK_CELLS_MAX, SPARK_CELLS_MIN + spare) if drawn else 0
    spare -= max(0, bars - SPARK_CELLS_MIN)
    name += min(spare, max(0, longest - name))
    return _Plan(tuple(columns), name, state, bars, told)


def table(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """A head and a row for each service, as many as there is room for around the selected one."""
    found = listing.services(frame, ui)
    plan = _planned(frame.status.services, width)
    head: list[Piece] = [
        (fit("", 4, look), "plain"),
        (fit("SERVICE" + _sorted(ui, "name", look), plan.name, look), "faint"),
        (" " + fit("STATE" + _sorted(ui, "trouble", look), plan.state, look), "faint"),
    ]
    for column in plan.columns:
        title = column.title + (_sorted(ui, column.sort, look) if column.sort else "")
        wide = plan.spark if column.title == "60 S" else column.width
        head.append((" " + fit(title, wide, look, right=column.title != "60 S"), "faint"))
    if plan.note:
        head.append((" " + fit("WHY", plan.note, look), "faint"))
    lines = [exact(head, width, look)]
    at = listing.place(found, ui, SERVICES)
    lines += [
        _row(found[index], plan, width, look, chosen=index == at)
        for index in listing.window(len(found), at, rows_max - 1)
    ]
    if not found:
        lines.append(exact([(fit("nothing matches", width, look), "faint")], width, look))
    return lines


def _sorted(ui: Ui, sort: str, look: Look) -> str:
    if ui.sort != sort or sort == "trouble":
        return ""
    return look.up if ui.reverse != (sort == "name") else look.down


def _row(row: ProgramStatus, plan: _Plan, width: int, look: Look, *, chosen: bool) -> Row:
    tone = TONES.get(row.state, "plain")
    pieces: list[Piece] = [
        (fit(look.cursor if chosen else "", 2, look), "plain"),
        (fit(look.states.get(row.state, "?"), 2, look), tone),
        (fit(row.name, plan.name, look), "strong"),
        (" " + fit(row.state, plan.state, look), tone),
    ]
    for column in plan.columns:
        if column.title == "60 S":
            pieces.append((" " + spark(row.history or (), HISTORY_S, plan.spark, look), "cyan"))
        else:
            value, of = column.cell(row)
            pieces.append((" " + fit(value, column.width, look, right=True), of))
    if plan.note:
        value, of = note(row)
        pieces.append((" " + fit(value, plan.note, look), of))
    line = exact(pieces, width, look)
    return selected(line) if chosen else line
