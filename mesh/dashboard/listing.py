"""What of a frame is listed, in which order, and which of it is selected: for view and keys alike."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from mesh.dashboard.frame import LogLine, Told, mark
from mesh.dashboard.ui import EVENTS, LOGS, SERVICES, TRACES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesh.dashboard.frame import Frame
    from mesh.dashboard.ui import Ui
    from mesh.orchestrator.contract import ProgramStatus
    from mesh.tracing.stories import Summary

BAD_LEVELS = frozenset({"warning", "error", "critical"})

_RANK = {"failed": 0, "backoff": 1, "degraded": 2, "starting": 3, "stopping": 3}
_CALM = 4
"""Rank of the states in which all is as it should be."""


def _number(value: float | None) -> float:
    return -1.0 if value is None else float(value)


_SORT_KEYS: dict[str, Callable[[ProgramStatus], tuple[float, ...]]] = {
    "trouble": lambda row: (
        _RANK.get(row.state, _CALM),
        -len(row.faults),
        -round(row.error_percent or 0),
    ),
    "name": lambda _: (),
    "cpu": lambda row: (-_number(row.cpu_percent),),
    "memory": lambda row: (-_number(row.rss_bytes),),
    "req/s": lambda row: (-_number(row.requests_per_s),),
    "p99": lambda row: (-_number(row.p99_ms),),
    "err%": lambda row: (-_number(row.error_percent),),
    "restarts": lambda row: (-row.restarts,),
    "lag": lambda row: (-_number(row.lag),),
}


def troubled(row: ProgramStatus) -> bool:
    """Whether a person should look at it first."""
    return row.state in _RANK or bool(row.faults) or bool(row.error_percent)


def _has(needle: str, *texts: str | None) -> bool:
    return not needle or any(needle in text.lower() for text in texts if text)


def services(frame: Frame, ui: Ui) -> list[ProgramStatus]:
    """Troubled ones first, else by the column chosen; equal ones as configured, or by name."""
    needle = ui.filters[SERVICES - 1].lower()
    found = [
        row
        for row in frame.status.services
        if _has(needle, row.name, row.state) and (troubled(row) or not ui.errors_only)
    ]
    if ui.sort == "name":
        found.sort(key=lambda row: row.name)
    found.sort(key=_SORT_KEYS[ui.sort])
    return found[::-1] if ui.reverse else found


def events(frame: Frame, ui: Ui) -> Sequence[Told]:
    """Oldest first. Only errors: those that somebody has parked."""
    needle = ui.filters[EVENTS - 1].lower()
    found: Sequence[Told] = frame.told
    if needle:
        found = [
            each
            for each in found
            if _has(needle, each.type, each.stream, each.subject, each.trace_id)
        ]
    if ui.errors_only:
        found = [each for each in found if "x" in marks(frame, each).values()]
    return found


def marks(frame: Frame, told: Told) -> dict[str, str]:
    """Consumer → `+` applied, `-` pending, `x` parked."""
    for stream in frame.streams:
        if stream.name == told.stream:
            return {each.name: mark(told, each, frame.parked) for each in stream.followers}
    return {}


def traces(frame: Frame, ui: Ui) -> list[Summary]:
    """The latest, the slowest, or those with errors first."""
    needle = ui.filters[TRACES - 1].lower()
    found = [
        each
        for each in frame.traces
        if _has(needle, each.root, each.service, each.trace_id)
        and (not ui.traces_of or ui.traces_of in each.services)
        and (each.error or not ui.errors_only)
    ]
    if ui.order == "slowest":
        found.sort(key=lambda each: -each.duration_us)
    elif ui.order == "errors":
        found.sort(key=lambda each: not each.error)
    return found


def logs(frame: Frame, ui: Ui) -> Sequence[LogLine]:
    """Oldest first. Only errors: warnings and worse."""
    needle = ui.filters[LOGS - 1].lower()
    if not (needle or ui.logs_of or ui.trace_of or ui.errors_only):
        return frame.logs
    return [
        each
        for each in frame.logs
        if (not ui.logs_of or each.service == ui.logs_of)
        and (not ui.trace_of or each.trace_id == ui.trace_of)
        and (not ui.errors_only or each.level in BAD_LEVELS)
        and _has(needle, each.message, each.facts, each.service, each.level)
    ]


KEYS: dict[int, Callable[[ProgramStatus | Told | Summary | LogLine], str]] = {
    SERVICES: attrgetter("name"),
    EVENTS: lambda each: str(each.arrival),  # type: ignore[union-attr]  # a list of one kind
    TRACES: attrgetter("trace_id"),
    LOGS: lambda each: str(each.number),  # type: ignore[union-attr]  # likewise
}
"""By what a selection is remembered while a list moves on."""


def listed(frame: Frame, ui: Ui, pane: int) -> Sequence[ProgramStatus | Told | Summary | LogLine]:
    """What a pane lists, in its order; nothing for a pane without a selection."""
    match pane:
        case 1:
            return services(frame, ui)
        case 3:
            return events(frame, ui)
        case 4:
            return traces(frame, ui)
        case 5:
            return logs(frame, ui)
        case _:
            return ()


def place(found: Sequence[ProgramStatus | Told | Summary | LogLine], ui: Ui, pane: int) -> int:
    """Where the selection is in what a pane lists: of what flows at its end, else at its begin."""
    if wanted := ui.selected[pane - 1]:
        key_of = KEYS[pane]
        for number, each in enumerate(found):
            if key_of(each) == wanted:
                return number
    return len(found) - 1 if pane in {EVENTS, LOGS} else 0


def selected_service(frame: Frame, ui: Ui) -> str:
    """The name of the row that is selected; empty when none is listed."""
    found = services(frame, ui)
    return found[place(found, ui, SERVICES)].name if found else ""


def selected_event(frame: Frame, ui: Ui) -> Told | None:
    """The event that is selected."""
    found = events(frame, ui)
    return found[place(found, ui, EVENTS)] if found else None


def selected_trace(frame: Frame, ui: Ui) -> Summary | None:
    """The trace that is selected."""
    found = traces(frame, ui)
    return found[place(found, ui, TRACES)] if found else None


def selected_line(frame: Frame, ui: Ui) -> LogLine | None:
    """The log line that is selected."""
    found = logs(frame, ui)
    return found[place(found, ui, LOGS)] if found else None


def window(count: int, at: int, rows: int) -> range:
    """Which of `count` items to show in `rows` rows so that item `at` is among them."""
    first = max(0, min(at - rows // 2, count - rows))
    return range(first, min(count, first + max(0, rows)))
