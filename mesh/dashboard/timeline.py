"""A waterfall as lines of text that fit a width; pure.

A bar is told by its marks, not by its colour: what the answer hung on, other work, and waits look
different in ASCII too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesh import text as plain
from mesh.tracing.span import WAITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.text import Part, Style
    from mesh.tracing.waterfall import Row, Waterfall

WIDTH_MIN = 60
"""Narrower terminals wrap: a bar needs room beside its name."""

SERVICE_CELLS_MAX = 10
DURATION_CELLS = 8
NOTE_CELLS = 12
LABEL_SHARE = 0.42
"""Of what is left of the width; the bars have the rest."""

MS, S = 1_000, 1_000_000


class Marks(NamedTuple):
    """What bars and incidents are drawn with."""

    critical: str
    work: str
    wait: str
    incident: str
    rule: str
    cut: str


UNICODE = Marks("█", "▒", "┄", "▲", "─", "…")
ASCII = Marks("#", "=", ".", "^", "-", "~")


def duration(us: int) -> str:
    """`540us`, `2.6ms`, `28ms`, `1.23s`: three digits are enough."""
    if us < MS:
        return f"{us}us"
    if us < 10 * MS:
        return f"{us / MS:.1f}ms"
    return f"{us / MS:.0f}ms" if us < S else f"{us / S:.2f}s"


def lines(fall: Waterfall, *, width: int, marks: Marks) -> list[list[Part]]:
    """The axis, the rows, what was left for later, the incidents, and what the marks mean."""
    width = max(WIDTH_MIN, width)
    names = list(dict.fromkeys(row.span.service for row in fall.rows))
    service = min(SERVICE_CELLS_MAX, max(map(plain.cells, names), default=1))
    free = width - service - DURATION_CELLS - NOTE_CELLS - 4
    label = int(free * LABEL_SHARE)
    frame = _Frame(fall.length_us, service, label, free - label, marks, names)
    shown = [frame.axis()]
    later = False
    for row in fall.rows:
        if row.later and not later:
            shown.append([(frame.ruled("events and what was left for later"), "faint")])
            later = True
        shown.append(frame.row(row))
    if fall.incidents:
        shown.append([(frame.ruled("what befell the programs meanwhile"), "faint")])
        shown += [frame.incident(each.at_us, each.program, each.what) for each in fall.incidents]
    shown.append([(f"{marks.critical} the answer hung on it   {marks.work} other work", "faint")])
    shown[-1].append((f"   {marks.wait} waits", "faint"))
    return shown


class _Frame(NamedTuple):
    """Where the columns are."""

    length_us: int
    service: int
    label: int
    bar: int
    marks: Marks
    names: Sequence[str]

    def axis(self) -> list[Part]:
        """Where the bars begin, their middle and their end, in time."""
        end, middle = duration(self.length_us), duration(self.length_us // 2)
        left = "0" + middle.rjust(self.bar // 2 + len(middle) // 2 - 1)
        return [(self._blank + left + end.rjust(max(1, self.bar - len(left))), "faint")]

    def ruled(self, title: str) -> str:
        """A line across with a title."""
        width = self.service + self.label + self.bar + 4 + DURATION_CELLS
        return f"{self.marks.rule} {title} ".ljust(width, self.marks.rule)

    def row(self, row: Row) -> list[Part]:
        """One span."""
        span = row.span
        failed: Style = "bad" if span.status else "faint"
        took_us = span.duration_us
        if span.kind in WAITS:  # the part of it that is drawn
            took_us = row.segments[-1].end_us - row.segments[-1].start_us
        took = "" if span.duration_us < 0 else duration(took_us)
        hue = plain.hue(span.service, self.names)
        parts: list[Part] = [
            (self._fitted(span.service, self.service), hue),
            f" {self._fitted('  ' * row.depth + row.label, self.label)} ",
            (self._drawn(row), "faint" if span.kind in WAITS else hue),
            f" {took:>{DURATION_CELLS}}",
        ]
        said = plain.cut(note(row), NOTE_CELLS, self.marks.cut)
        return [*parts, (f" {said}", failed)] if said else parts

    def incident(self, at_us: int, program: str, what: str) -> list[Part]:
        """When it was, on the same axis; its text beside the mark, on the side that has room."""
        at = self._cell(at_us)
        room_left, text = at - 1, what
        space = self.bar + DURATION_CELLS + NOTE_CELLS + 2 - at - 2
        head: Part = (self._fitted(program, self.service), "bad")
        mark: Part = (self.marks.incident, "bad")
        if len(text) <= space or space >= room_left + self.label:
            blank = " " * (self.label + 2 + at)
            return [head, blank, mark, " " + plain.cut(text, max(1, space), self.marks.cut)]
        text = plain.cut(text, room_left + self.label, self.marks.cut)
        return [head, " " * (self.label + 1 + at - len(text)) + text + " ", mark]

    def _fitted(self, text: str, width: int) -> str:
        """Exactly so many cells."""
        shown = plain.cut(plain.clean_line(text), width, self.marks.cut)
        return shown + " " * (width - plain.cells(shown))

    @property
    def _blank(self) -> str:
        return " " * (self.service + self.label + 2)

    def _cell(self, at_us: int) -> int:
        """The cell in which a moment lies; moments before and after are at the edges."""
        return min(self.bar - 1, max(0, at_us * self.bar // self.length_us))

    def _drawn(self, row: Row) -> str:
        cells = [" "] * self.bar
        for part in row.segments:
            if part.tone == "wait":
                mark = self.marks.wait
            else:
                mark = self.marks.critical if row.critical else self.marks.work
            first, last = self._cell(part.start_us), self._cell(max(part.start_us, part.end_us - 1))
            cells[first : last + 1] = mark * (last + 1 - first)
        return "".join(cells)


def note(row: Row) -> str:
    """What is said beside the bar: which try, what was answered, what failed."""
    span = row.span
    said = [f"try {row.attempt}"] if row.attempt > 1 else []
    status = span.attributes.get("status")
    if span.status and span.status != str(status):
        said.append(span.status)
    elif status is not None:
        said.append(str(status))
    return " ".join(said)
