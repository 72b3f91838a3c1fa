"""One story laid out: rows in the order of a tree, their bars in time, and what it hung on; pure.

First what the one who asked waited for, as a tree; beneath it what was left to be done after:
events on their way, those who heard them, deferred work. Nothing here knows a screen.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from mesh.tracing.span import (
    ASYNCHRONOUS,
    UNFINISHED,
    UNFINISHED_STATUS,
    UNRECORDED_STATUS,
    WAITS,
    Span,
)
from mesh.tracing.stories import attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEPTH_MAX = 32
"""Deeper spans are shown as deep as this; damaged records may name one another in a circle."""

AROUND_US = 500_000
"""What befell a program this long before a story began or after it ended is shown with it."""

Tone = Literal["work", "wait"]


class Segment(Struct, frozen=True):
    """A part of a bar; microseconds from the beginning of the story."""

    start_us: int
    end_us: int
    tone: Tone


class Row(Struct, frozen=True, kw_only=True):
    """One line of the picture.

    Attributes:
        depth: in its tree; the asynchronous part begins at 0 again.
        later: of the asynchronous part.
        critical: the story's answer would have been earlier, had this been faster.
        attempt: from 1.
    """

    span: Span
    label: str
    depth: int
    later: bool
    critical: bool
    segments: tuple[Segment, ...]
    attempt: int


class Incident(Struct, frozen=True, kw_only=True):
    """What befell a program while the story went on; `at_us` from the story's beginning."""

    at_us: int
    program: str
    what: str


class Waterfall(Struct, frozen=True, kw_only=True):
    """The whole picture. `start_us` is wall time, `length_us` of the axis."""

    trace_id: str
    start_us: int
    length_us: int
    rows: tuple[Row, ...]
    incidents: tuple[Incident, ...]


def waterfall(spans: Iterable[Span], befell: Iterable[tuple[int, str, str]] = ()) -> Waterfall:
    """Lay out one story.

    Args:
        spans: of one trace, at least one.
        befell: (microseconds since the epoch, program, what) of anything that happened; what is
            of another time or of a program that took no part is left out.
    """
    known = _completed(list(spans))
    start_us = min(span.start_us for span in known.values())
    tree = _Tree(known, start_us)
    rows = tree.rows()
    end_us = max(span.end_us for span in known.values())
    names = {span.service for span in known.values()} | {
        str(span.values[0]) for span in known.values() if span.kind == "client" and span.values
    }
    incidents = [
        Incident(at_us=at_us - start_us, program=program, what=what)
        for at_us, program, what in sorted(befell)
        if program in names and start_us - AROUND_US <= at_us <= end_us + AROUND_US
    ]
    length_us = max([end_us - start_us, *(each.at_us for each in incidents)])
    return Waterfall(
        trace_id=next(iter(known.values())).trace_id,
        start_us=start_us,
        length_us=max(1, length_us),
        rows=tuple(rows),
        incidents=tuple(incidents),
    )


def label(span: Span) -> str:
    """What a person calls it, without the service."""
    match span.kind, span.values:
        case "client", (peer, method, route, *_):
            return f"ask {peer} {method} {route}"
        case "outbox", _:
            return f"tell {span.name}"
        case "delivery", _:
            return f"hear {span.name}"
        case "deferred", _:
            return f"{span.name} (deferred)"
        case _:
            return span.name


def _completed(spans: Sequence[Span]) -> dict[str, Span]:
    """By id, with a stand-in for each span that others name as their parent and nobody recorded.

    Such a one is still at work, or was when its process was killed; who told an event may be
    a program that records nothing. Strangers' parents are left out: a caller from outside the mesh
    keeps its own record.
    """
    known = {span.span_id: span for span in spans}
    for span in spans:
        parent = span.parent_id
        if not parent or parent in known or span.kind in {"server", "call"}:
            continue
        orphans = [each for each in spans if each.parent_id == parent]
        told = span.kind == "delivery"
        known[parent] = Span(
            span.trace_id,
            parent,
            "",
            _KIND_OF_PARENT.get(span.kind, "server"),
            span.name if told else UNFINISHED_STATUS,
            min(each.start_us for each in orphans),
            UNFINISHED,
            UNRECORDED_STATUS if told else UNFINISHED_STATUS,
            (),
            str(span.attributes.get("stream", "")) if told else span.service,
        )
    return known


_KIND_OF_PARENT = {"delivery": "outbox", "handler": "delivery"}


class _Tree:
    """The spans of one story by who their parent is."""

    def __init__(self, known: Mapping[str, Span], start_us: int) -> None:
        self._known = known
        self._start_us = start_us
        self._children: dict[str, list[Span]] = defaultdict(list)
        for span in sorted(known.values(), key=lambda each: (each.start_us, -each.duration_us)):
            parent = span.parent_id if span.parent_id in known else ""
            self._children[parent].append(span)
        self._seen: set[str] = set()
        self._later: list[Span] = []
        self._critical: set[str] = set()

    def rows(self) -> list[Row]:
        """Those who asked first, each with what it waited for; then the rest, by time."""
        roots = self._children[""]
        for root in roots:
            if root.kind not in ASYNCHRONOUS:
                self._mark(root, root.end_us)
                break
        found: list[Row] = []
        for root in roots:
            if root.kind in ASYNCHRONOUS:
                self._later.append(root)
            else:
                self._walk(root, 0, found, later=False)
        while self._later:
            self._later.sort(key=lambda span: span.start_us, reverse=True)
            self._walk(self._later.pop(), 0, found, later=True)
        for span in self._known.values():  # a circle has no root
            self._walk(span, 0, found, later=True)
        return found

    def _walk(self, span: Span, depth: int, found: list[Row], *, later: bool) -> None:
        pending = [(span, depth)]
        while pending:
            span, depth = pending.pop()
            if span.span_id in self._seen:
                continue
            self._seen.add(span.span_id)
            found.append(
                Row(
                    span=span,
                    label=label(span),
                    depth=min(depth, DEPTH_MAX),
                    later=later,
                    critical=span.span_id in self._critical,
                    segments=self._segments(span),
                    attempt=attempt(span),
                )
            )
            for child in reversed(self._children[span.span_id]):
                if not later and child.kind in ASYNCHRONOUS:
                    self._later.append(child)
                else:
                    pending.append((child, depth + 1))

    def _mark(self, root: Span, until_us: int) -> None:
        """The chain of what was waited for, from the end backwards: whoever ended last held it up."""
        pending = [(root, until_us)]
        while pending:
            span, until_us = pending.pop()
            if span.span_id in self._critical:
                continue
            self._critical.add(span.span_id)
            below = [each for each in self._children[span.span_id] if each.kind not in ASYNCHRONOUS]
            for child in sorted(below, key=lambda each: each.end_us, reverse=True):
                if child.start_us < until_us:
                    pending.append((child, min(child.end_us, until_us)))
                    until_us = child.start_us

    def _segments(self, span: Span) -> tuple[Segment, ...]:
        """Its bar: where it waits and where it works."""
        start_us, end_us = span.start_us - self._start_us, span.end_us - self._start_us
        if span.kind in WAITS:
            parent = self._known.get(span.parent_id)
            if span.kind == "delivery" and parent is not None and parent.kind == "outbox":
                start_us = min(end_us, max(start_us, parent.end_us - self._start_us))
            return (Segment(start_us, end_us, "wait"),)
        before = span.values[:1] if span.kind == "commit" else span.values[2:3]
        waited_us = before[0] if span.kind in {"commit", "deferred"} and before else 0
        waited_us = waited_us if isinstance(waited_us, int) and waited_us > 0 else 0
        if span.kind == "deferred":
            wait = Segment(max(0, start_us - waited_us), start_us, "wait")
        else:
            wait = Segment(start_us, min(end_us, start_us + waited_us), "wait")
            start_us = wait.end_us
        work = Segment(start_us, end_us, "work")
        return (wait, work) if waited_us else (work,)
