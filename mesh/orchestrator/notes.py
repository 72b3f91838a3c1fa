"""When a log had grown how far: times for lines that tell none themselves.

Beside `order.log` lies `order.idx`, one note a line: milliseconds since the epoch, and the offset
up to which the log had been written by then. What is no note is passed over.
Standard library only.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

NOTES_BYTES_MAX = 1024 * 1024
"""Of one log, about 45,000 notes. When there are more, every second one of the older half goes:
times become coarser with age, and none is lost."""

_NOTE_BYTES_MAX = 64
"""More than any note, so that the end of the file holds a whole one."""

TIMES_MS = range(253_402_300_800_000)
"""Milliseconds from 1970 to the end of 9999: what can be written as a date."""


def beside(log: Path) -> Path:
    """Where a log's notes lie."""
    return log.with_suffix(".idx")


def add(log: Path, at_ms: int, end: int, *, bytes_max: int = NOTES_BYTES_MAX) -> None:
    """Note that by then the log had been written up to `end`. Raises OSError, among them ENOSPC."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(beside(log), flags, 0o600)
    try:
        before, line = os.fstat(descriptor).st_size, _line(at_ms, end)
        length = before + os.write(descriptor, line)
        if length < before + len(line):
            os.ftruncate(descriptor, before)  # the disk is full; half a note would be a wrong one
    finally:
        os.close(descriptor)
    if length > bytes_max:
        found = _parsed(beside(log).read_bytes())
        half = len(found) // 2
        _replace(log, [*found[:half:2], *found[half:]])


def trim(log: Path, first: int) -> None:
    """Keep the notes of what is left from an offset on. Raises OSError."""
    found = _parsed(beside(log).read_bytes())
    kept = [note for note in found if note[1] > first]
    if len(kept) < len(found):
        _replace(log, kept)


def check(log: Path, end: int) -> None:
    """Remove all notes if the last is beyond the log's end: they are of one that is gone.

    Raises OSError.
    """
    with beside(log).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _NOTE_BYTES_MAX))
        last = _parsed(file.read())[-1:]
    if last and last[0][1] > end:
        beside(log).unlink()


def _line(at_ms: int, end: int) -> bytes:
    return b"%d %d\n" % (at_ms, end)


def _replace(log: Path, kept: list[tuple[int, int]]) -> None:
    path = beside(log)
    draft = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(draft, flags, 0o600)
    try:
        raw = b"".join(_line(*note) for note in kept)
        if os.write(descriptor, raw) < len(raw):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    draft.replace(path)


def _parsed(raw: bytes) -> list[tuple[int, int]]:
    """The notes that can be read, in rising order of their offsets."""
    found: list[tuple[int, int]] = []
    for line in raw.split(b"\n"):
        with contextlib.suppress(ValueError):
            at_ms, end = map(int, line.split(b" "))
            if at_ms in TIMES_MS and (not found or end > found[-1][1]):
                found.append((at_ms, end))
    return found


class Note(NamedTuple):
    """One note: its number among those that are left, and its time."""

    number: int
    at_ms: int


class Notes:
    """What was noted about one log, read when it is first asked for and again as it grows.

    Attributes:
        fresh: do not look at the file again although a note is missing.
    """

    def __init__(self, log: Path) -> None:
        """Nothing is read yet."""
        self.fresh = False
        self._path = beside(log)
        self._read = (0, 0)
        self._rest = b""
        self._ends: list[int] = []
        self._at_ms: list[int] = []

    def at(self, offset: int) -> Note | None:
        """The first note by which the byte at this offset had been written; None if not yet.

        The byte was written after the note before that.
        """
        if not self.fresh and (not self._ends or self._ends[-1] <= offset):
            self.fresh = True
            with contextlib.suppress(OSError):
                self._refresh()
        number = bisect.bisect_right(self._ends, offset)
        return Note(number, self._at_ms[number]) if number < len(self._ends) else None

    def _refresh(self) -> None:
        """Read what was added; everything, if the file is another one."""
        with self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            inode, position = self._read
            if found.st_ino != inode or found.st_size < position:
                position, self._rest = 0, b""
                self._ends, self._at_ms = [], []
            file.seek(position)
            raw = file.read(2 * NOTES_BYTES_MAX)
        self._read = (found.st_ino, position + len(raw))
        *lines, self._rest = (self._rest + raw).split(b"\n")
        for at_ms, end in _parsed(b"\n".join(lines)):
            if not self._ends or end > self._ends[-1]:
                self._ends.append(end)
                self._at_ms.append(at_ms)
