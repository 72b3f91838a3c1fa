"""One log read line by line from an offset on, whatever is cut off meanwhile.

Bytes become lines here, lines get their times, and what was gone before it could be read is
counted. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, NamedTuple

from mesh import clock
from mesh.orchestrator.notes import TIMES_MS, Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh.orchestrator.pieces import Log

LINE_BYTES_MAX = 64 * 1024
"""A longer line is cut to this, and its end marked: no reader's memory depends on a program."""

CHUNK_BYTES = 256 * 1024
"""Read at a time from one log, so that a flood in one does not hold up the others."""

UNSETTLED_S = 0.002
"""Before the next look at a log that is just being cut; pieces.SETTLE_S bounds the looks."""

CUT = b" [cut]"


class Line(NamedTuple):
    """One line of one program.

    `at_ms` is its own time, else when it had been written, or the time of the line before it if
    both were written between two looks; None if nothing tells. `text` is undecoded data from a
    program: it is sanitised where it is shown.
    """

    name: str
    text: str
    at_ms: int | None


class Reader:
    """One log, from an offset on.

    Attributes:
        missed: bytes passed over because they were gone.
        behind: the last bite held something, so the next one may.
    """

    def __init__(self, name: str, log: Log, offset: int) -> None:
        self.name = name
        self.log = log
        self.missed = 0
        self.behind = False
        self._offset = offset
        self._rest = b""
        self._begins = offset
        self._ragged = False
        self._notes = Notes(log.path)
        self._before: tuple[int, int | None] = (offset, None)
        self._bitten = offset
        self._live = False
        self._quiet: tuple[int, int, int] | None = None

    def lines(self, until: int | None, *, unfinished: bool) -> Iterator[Line]:
        """Complete lines up to an offset or to the end, and then perhaps what is left."""
        while until is None or self._offset < until:
            yield from self.bite()
            if self.log.unsettled:
                time.sleep(UNSETTLED_S)
            elif not self.behind:
                break
        if unfinished and self._rest:
            yield self._taken(b"")

    def bite(self) -> Iterator[Line]:
        """Complete lines of the next chunk."""
        stamp = self.log.stamp()
        if stamp is not None and stamp == self._quiet:
            self.behind = False
            return
        at, chunk = self.log.read(self._offset, CHUNK_BYTES)
        if at != self._offset:
            yield from self._jumped(at)
        self.behind = bool(chunk)
        self._offset = at + len(chunk)
        self._notes.fresh = False
        if self._ragged:
            chunk = self._without_fragment(chunk)
        if not chunk:
            if not (self.behind or self.log.unsettled):
                self._quiet, self._live = stamp, True
            return
        self._bitten = place = self._offset - len(chunk)
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield self._taken(piece)
            place += len(piece) + 1
            self._begins = place
        self._rest = (self._rest + rest)[: LINE_BYTES_MAX + 1]

    def skip_to(self, offset: int) -> None:
        """Go on no earlier than there; the line begun is missed too."""
        if offset > self._offset:
            self.missed += offset - self._begins
            self._offset = self._begins = offset
            self._rest, self._ragged = b"", True

    def _jumped(self, at: int) -> Iterator[Line]:
        """What was next is gone; or, if it goes on earlier, the log was emptied and begins anew."""
        if self._rest:
            yield self._taken(CUT)
        self._ragged = at > self._offset
        self.missed += max(0, at - self._offset)
        self._begins = at

    def _without_fragment(self, chunk: bytes) -> bytes:
        """After a jump: what follows the end of a line whose beginning is gone."""
        length = chunk.find(b"\n") + 1
        self._ragged = not length
        self.missed += length or len(chunk)
        self._begins = self._offset - len(chunk) + (length or len(chunk))
        return chunk[length:] if length else b""

    def _taken(self, end: bytes) -> Line:
        raw = (self._rest + end).removesuffix(b"\r")
        self._rest = b""
        if len(raw) > LINE_BYTES_MAX:
            raw = raw[:LINE_BYTES_MAX] + CUT
        at_ms = _time_of(raw)
        if at_ms is None:
            at_ms = self._time_by_note()
        self._before = (self._begins, at_ms)
        return Line(self.name, raw.decode("utf-8", "backslashreplace"), at_ms)

    def _time_by_note(self) -> int | None:
        """Of a line that tells none. Lines of one burst stay together, as a traceback should."""
        note = self._notes.at(self._begins)
        before, at_ms = self._before
        if note is None:
            together = not self._live or before >= self._bitten
        else:
            together = at_ms is not None and self._notes.at(before) == note
        if together and at_ms is not None:
            return at_ms
        if note is not None:
            return note.at_ms
        return clock.now_ms() if self._live else None


def _time_of(raw: bytes) -> int | None:
    """The `time` of a JSON line, in milliseconds."""
    if not raw.startswith(b"{"):
        return None
    with contextlib.suppress(ValueError, TypeError, LookupError, OverflowError, RecursionError):
        at_ms = clock.parse_iso(json.loads(raw)["time"])
        return at_ms if at_ms in TIMES_MS else None
    return None


def _first_line(log: Log) -> int:
    """The offset of the oldest line that is left whole."""
    at = log.first()
    while at:
        at, chunk = log.read(at, CHUNK_BYTES)
        if not chunk:
            break
        found = chunk.find(b"\n") + 1
        if found:
            return at + found
        at += len(chunk)
    return at


def start_of_last(log: Log, count: int | None, *, since: int = 0) -> int:
    """The offset at which the last `count` lines begin; the very last need not be finished.

    Looks back no further than to offset `since`, nor beyond the latest gap: what is before that
    is older than something missing.
    """
    position = end = log.end()
    if count == 0:
        return end
    first = since if since > log.first() else _first_line(log)
    if count is None:
        return first
    wanted = count
    while position > first:
        expected = max(first, position - CHUNK_BYTES)
        start, chunk = _between(log, expected, position)
        if start > expected:  # behind a gap: a line that may have lost its beginning is left out
            length = chunk.find(b"\n") + 1 or len(chunk)
            first = start = start + length
            chunk = chunk[length:]
        if position == end and chunk.endswith(b"\n"):
            wanted += 1
        ends = chunk.count(b"\n")
        if ends < wanted:
            wanted -= ends
            position = start
            continue
        place = len(chunk)
        for _ in range(wanted):
            place = chunk.rindex(b"\n", 0, place)
        return start + place + 1
    return first


def _between(log: Log, start: int, end: int) -> tuple[int, bytes]:
    """What lies between two offsets, behind the last gap; and where that begins."""
    at, found = start, b""
    while at < end:
        begins, chunk = log.read(at, end - at)
        if log.unsettled:
            time.sleep(UNSETTLED_S)
            continue
        if begins != at:
            start, found = begins, b""
        if not chunk:
            break
        found += chunk
        at = begins + len(chunk)
    return start, found
