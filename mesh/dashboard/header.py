"""The first rows: how the whole mesh is, in the figures one asks for first; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.dashboard.picture import Piece, exact, ms, percent, rate, safe, size
from mesh.orchestrator.contract import UP
from mesh.text import age, cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.dashboard.frame import Frame
    from mesh.dashboard.picture import Look, Row
    from mesh.dashboard.ui import Ui
    from mesh.orchestrator.contract import ProgramStatus

Group = tuple[Piece, ...]
"""Pieces that stay together."""

GAP = "   "


def healths(frame: Frame) -> list[Piece]:
    """`4/5 healthy`, then whatever is not; a program nobody wanted to start does not count."""
    rows = [row for row in frame.status.services if row.cause not in {"not started", "exit 0"}]
    ready = sum(row.state == "ready" for row in rows)
    words: list[Piece] = [
        (f"{ready}/{len(rows)} healthy", "good" if ready == len(rows) else "warn"),
    ]
    for state, word, tone in (
        ("failed", "failed", "bad"),
        ("backoff", "backing off", "bad"),
        ("degraded", "degraded", "warn"),
        ("starting", "starting", "cyan"),
        ("stopping", "stopping", "cyan"),
        ("stopped", "stopped", "faint"),
    ):
        if count := sum(row.state == state for row in rows):
            words.append((f"  {count} {word}", tone))  # type: ignore[arg-type]  # a tone
    return words


def _most(rows: Sequence[ProgramStatus], member: str) -> float | None:
    return max((v for row in rows if (v := getattr(row, member)) is not None), default=None)


def traffic(frame: Frame, look: Look) -> list[Group]:
    """Rates over all services. Quantiles of the whole lie at most where the slowest service's do."""
    rows = [row for row in frame.status.services if row.state in UP]
    rates = [row.requests_per_s for row in rows if row.requests_per_s is not None]
    whole = sum(rates)
    wrong = sum((row.requests_per_s or 0) * (row.error_percent or 0) for row in rows)
    errors = wrong / whole if whole else None
    events = [each.per_s for each in frame.streams if each.per_s is not None]
    lag = sum(each.lag for stream in frame.streams for each in stream.followers)
    groups: list[Group] = []
    if rates:
        p50, p99 = _most(rows, "p50_ms"), _most(rows, "p99_ms")
        groups.append(((rate(whole), "strong"), (" req/s", "plain")))
        if p99 is not None:
            groups.append(((f"p50 {look.at_most}{ms(p50)}", "plain"),))
            groups.append(((f"p99 {look.at_most}{ms(p99)}", "plain"),))
        bad = errors is not None and errors > 0
        share = "" if errors is None else "%"
        groups.append(((f"err {percent(errors)}{share}", "bad" if bad else "plain"),))
    if frame.streams:
        groups.append(((rate(sum(events)), "strong"), (" events/s", "plain")))
        groups.append(((f"lag {lag}", "warn" if lag else "plain"),))
    return groups


def flags(frame: Frame, ui: Ui, look: Look) -> list[Group]:
    """What changes the meaning of all the rest."""
    found: list[Group] = []
    if ui.paused:
        found.append((("PAUSED", "alarm"),))
    if ui.read_only:
        found.append((("READ-ONLY", "strong"),))
    if ui.errors_only:
        found.append((("ERRORS ONLY", "strong"),))
    if frame.dropped or frame.missed_bytes:
        lost = [f" {frame.dropped} events"] if frame.dropped else []
        lost += [f" {size(frame.missed_bytes)} of logs"] if frame.missed_bytes else []
        found.append((("DROPPED" + ",".join(lost), "warn"),))
    if frame.quiet:
        found.append(((safe(frame.quiet, look), "warn"),))
    return found


def rows(frame: Frame, ui: Ui, width: int, rows_max: int, look: Look) -> list[Row]:
    """One row where everything fits in it, else two."""
    supervisor = frame.status.supervisor
    up = f"up {age(supervisor.uptime_s)}" if supervisor else "does not run"
    first: list[Group] = [
        (("mesh ", "strong"), (safe(frame.status.project, look), "strong"), (f"  {up}", "faint")),
        tuple(healths(frame)),
    ]
    rest = traffic(frame, look)
    marks = flags(frame, ui, look)
    if _cells([*first, *rest, *marks]) <= width or rows_max < 2:  # noqa: PLR2004  (a second row)
        return [exact(_joined([*first, *rest, *marks]), width, look)][:rows_max]
    if _cells([*first, *marks]) <= width:
        return [
            exact(_joined([*first, *marks]), width, look),
            exact(_joined(rest), width, look),
        ]
    return [exact(_joined(first), width, look), exact(_joined([*marks, *rest]), width, look)]


def _joined(groups: Sequence[Group]) -> list[Piece]:
    pieces: list[Piece] = []
    for group in groups:
        if pieces:
            pieces.append((GAP, "plain"))
        pieces += group
    return pieces


def _cells(groups: Sequence[Group]) -> int:
    return sum(cells(piece) for piece, _ in _joined(groups))
