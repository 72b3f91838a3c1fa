"""A run second by second, and below it what was broken when: the time axis of a report. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mesh.exercise.chaos import SUPERVISOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.exercise.chaos import Inflicted
    from mesh.exercise.tally import Second

Style = Literal["good", "warn", "bad", "faint", "strong", "blue", "cyan", "magenta"]
Part = str | tuple[str, Style]
Line = list[Part]

BLOCKS = " ▁▂▃▄▅▆▇█"

LABEL = 12
"""Cells of what a row is called."""

FAULTS_MAX = 40
"""Faults that are told one by one; of more it is told whom they hit how often."""

MARKS = {
    "kill": "✗",
    "pause": "‖",
    "latency": "~",
    "error": "!",
    "drop": "∅",
    "dup": "=",
    "reorder": "⇄",
}


PART_S = 0.25
"""Of a second: a shorter rest of a run is no second of its own."""


def over_time(
    counted: Sequence[Second], took_s: float, faults: Sequence[Inflicted], width: int
) -> list[Line]:
    """Second by second: answers, what was none, the slowest; below them what was broken when."""
    if not counted:
        return []
    seconds = _whole(counted, took_s)
    cells = min(len(seconds), max(1, width - LABEL - 16))
    rows: tuple[tuple[str, list[float], str, Style], ...] = (
        ("answers/s", [each.good for each in seconds], "", "cyan"),
        ("not ok/s", [each.bad for each in seconds], "", "bad"),
        ("slowest", [each.slowest_ms for each in seconds], " ms", "faint"),
    )
    found: list[Line] = [[("over time", "strong")]]
    for name, values, unit, style in rows:
        if name == "not ok/s" and not any(values):
            continue
        shown = spark(values, cells)
        found.append([label(name), (shown, style), f"  at most {ms(max(values))}{unit}"])
    for kind, mark in MARKS.items():
        made = [each for each in faults if each.fault.kind == kind]
        if made:
            found.append([label(kind), (_marks(made, len(seconds), cells, mark), "warn")])
    end = f"{took_s:.0f} s"
    found.append([label(""), (f"0{end:>{max(len(end) + 1, cells - 1)}}", "faint")])
    if len(faults) > FAULTS_MAX:
        return found + _summed(faults)
    return found + [_told(each) for each in faults]


def _summed(faults: Sequence[Inflicted]) -> list[Line]:
    """A line for each kind: how many were made, and of whom."""
    found: list[Line] = []
    for kind in MARKS:
        asked = [each for each in faults if each.fault.kind == kind]
        made = Counter(each.fault.target for each in asked if each.refused is None)
        if asked:
            whom = ", ".join(f"{count} {name}" for name, count in sorted(made.items()))
            missed = len(asked) - made.total()
            more = f"; {missed} could not be made" if missed else ""
            found.append([label(""), f"{kind} {made.total()}: {whom}{more}"])
    return found


def _marks(made: Sequence[Inflicted], seconds: int, cells: int, mark: str) -> str:
    row = ["·"] * cells
    for each in made:
        first = min(cells - 1, int(each.at_s * cells / seconds))
        last = min(cells - 1, int((each.at_s + each.fault.for_s) * cells / seconds))
        row[first : last + 1] = mark * (last + 1 - first)
    return "".join(row)


def _whole(seconds: Sequence[Second], took_s: float) -> list[Second]:
    """A run does not end with a whole second: the rest counts for as much as in a whole one."""
    *before, last = seconds
    part_s = took_s - len(before)
    if before and part_s < PART_S:
        joined = before[-1]
        slowest_ms = max(joined.slowest_ms, last.slowest_ms)
        return [*before[:-1], replace(joined, bad=joined.bad + last.bad, slowest_ms=slowest_ms)]
    return [*before, replace(last, good=round(last.good / min(1.0, max(part_s, PART_S))))]


def _told(each: Inflicted) -> Line:
    fault = each.fault
    begun: Line = [label(""), (f"{each.at_s:5.1f} s ", "faint"), f"{fault.kind} {fault.target}"]
    if each.refused is not None:
        return [*begun, (f"  not done: {each.refused}", "faint")]
    more = f" for {fault.for_s:.1f} s" if fault.for_s else ""
    if fault.ms:
        more += f", {fault.ms} ms"
    if fault.rate < 1:
        more += f", {fault.rate:.0%} of them"
    if fault.target == SUPERVISOR:
        more += f": up again after {each.took_s:.1f} s"
    return [*begun, more]


def spark(values: Sequence[float], cells: int, most: float | None = None) -> str:
    """Values as columns; of several that fall into one cell the greatest."""
    if not values or cells <= 0:
        return ""
    cells = min(cells, len(values))
    columns = [
        max(
            values[
                n * len(values) // cells : max(
                    (n + 1) * len(values) // cells, n * len(values) // cells + 1
                )
            ]
        )
        for n in range(cells)
    ]
    top = most or max(columns) or 1
    return "".join(BLOCKS[0 if not each else max(1, round(8 * each / top))] for each in columns)


def ms(value: float | None) -> str:
    """Milliseconds as they are shown."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"  # noqa: PLR2004  a digit more below ten


def label(text: str) -> Part:
    """What a row is called."""
    return (f"{text:<{LABEL}}", "faint")
