"""Log files: one a program, written by the program itself, read here by whoever wants to.

A file is opened to append and handed over as the program's stdout and stderr, so no reader, slow
or dead, is ever in a program's way. Reading is by file, not by process, and so goes on across
restarts. Lines are merged in time order by the `time` member of JSON lines; a line without one
belongs to the line before it. Standard library only.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from mesh import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

LINE_BYTES_MAX = 64 * 1024
"""A longer line is cut to this, and its end marked: no reader's memory depends on a program."""

CHUNK_BYTES = 256 * 1024
"""Read at a time from one file, so that a flood in one does not hold up the others."""

FOLLOW_S = 0.1
"""Between two looks at the files: below what a person notices, and no load when all is quiet."""

CUT = b" [cut]"


class Line(NamedTuple):
    """One line of one program. `at_ms` is its own time, or the one before's; None if none had one.

    `text` is undecoded data from a program: it is sanitised where it is shown.
    """

    name: str
    text: str
    at_ms: int | None


def append_to(path: Path) -> int:
    """A descriptor that appends to this log, 0600, made if absent; close it after handing it over."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


class Journal:
    """The supervisor's own log: one JSON object a line. Never raises, never waits.

    Attributes:
        lost: lines that found no space.
    """

    def __init__(self, path: Path) -> None:
        """Open it to append."""
        self.lost = 0
        self._file = append_to(path)

    def write(self, event: str, **members: object) -> None:
        """Add a line; `members` are JSON values."""
        line = json.dumps({"time": clock.iso(clock.now_ms()), "event": event, **members})
        try:
            os.write(self._file, line.encode() + b"\n")
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


def size(path: Path) -> int:
    """Bytes in the file now; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_lines(path: Path, count: int, *, since: int = 0) -> tuple[str, ...]:
    """At most `count` lines from the end of one file, none from before offset `since`."""
    reader = _Reader("", path, max(since, _start_of_last(path, count)))
    return tuple(line.text for line in reader.lines(to_end=True))


def tail(paths: Mapping[str, Path], last: int | None) -> Iterator[Line]:
    """The last lines of each file, merged in time order; streamed, however many.

    Args:
        paths: by program; a file that does not exist is empty.
        last: how many of each; None for all.
    """
    readers = [_Reader(name, path, _start_of_last(path, last)) for name, path in paths.items()]
    yield from _merged(reader.lines(to_end=True) for reader in readers)


class Follower:
    """Reads what has been added to each file since the last look."""

    def __init__(self, paths: Mapping[str, Path], last: int | None = 0) -> None:
        """Begin `last` lines before the present end of each file; None for its beginning."""
        self._readers = [
            _Reader(name, path, _start_of_last(path, last)) for name, path in paths.items()
        ]

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once."""
        return any(reader.behind for reader in self._readers)

    def read(self) -> list[Line]:
        """Every line completed since, at most CHUNK_BYTES of each file, merged in time order."""
        return list(_merged(reader.lines(to_end=False) for reader in self._readers))


class _Reader:
    """One file, from an offset on. It is opened for each look, so it may be removed or truncated."""

    def __init__(self, name: str, path: Path, offset: int) -> None:
        self._name = name
        self._path = path
        self._offset = offset
        self._rest = b""
        self._at_ms: int | None = None
        self.behind = False

    def lines(self, *, to_end: bool) -> Iterator[Line]:
        """Complete lines of the next chunk, or of all chunks and then what is left."""
        while chunk := self._chunk():
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                yield self._line(self._rest + piece)
                self._rest = b""
            self._keep(rest)
            if not to_end:
                return
        if to_end and self._rest:
            yield self._line(self._rest)
            self._rest = b""

    def _chunk(self) -> bytes:
        length = size(self._path)
        if length < self._offset:
            self._offset = 0
        if length == self._offset:
            self.behind = False
            return b""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read(CHUNK_BYTES)
        except OSError:
            chunk = b""
        self._offset += len(chunk)
        self.behind = bool(chunk) and self._offset < length
        return chunk

    def _keep(self, rest: bytes) -> None:
        """Hold the beginning of an unfinished line, bounded."""
        self._rest = (self._rest + rest)[: LINE_BYTES_MAX + 1]

    def _line(self, raw: bytes) -> Line:
        raw = raw.removesuffix(b"\r")
        if len(raw) > LINE_BYTES_MAX:
            raw = raw[:LINE_BYTES_MAX] + CUT
        own_ms = _time_of(raw)
        self._at_ms = own_ms if self._at_ms is None else max(self._at_ms, own_ms or 0)
        return Line(self._name, raw.decode("utf-8", "backslashreplace"), self._at_ms)


def _merged(sources: Iterable[Iterator[Line]]) -> Iterator[Line]:
    return heapq.merge(*sources, key=lambda line: line.at_ms or 0)


def _time_of(raw: bytes) -> int | None:
    """The `time` of a JSON line, in milliseconds."""
    if not raw.startswith(b"{"):
        return None
    with contextlib.suppress(ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return clock.parse_iso(json.loads(raw)["time"])
    return None


def _start_of_last(path: Path, count: int | None) -> int:
    """The offset at which the last `count` lines begin; a last line need not be finished."""
    if count is None:
        return 0
    try:
        with path.open("rb") as file:
            return _start_in(file, count)
    except OSError:
        return 0


def _start_in(file: BinaryIO, count: int) -> int:
    position = end = file.seek(0, os.SEEK_END)
    if count == 0:
        return end
    wanted = count
    while position:
        start = max(0, position - CHUNK_BYTES)
        file.seek(start)
        chunk = file.read(position - start)
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
    return 0
