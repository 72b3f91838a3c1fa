"""Logs: one a program, written by the program itself, read here by whoever wants to.

A file is opened to append and handed over as the program's stdout and stderr, so no reader, slow
or dead, is ever in a program's way. Reading is by log, not by process or file, and so goes on
across restarts and over the pieces that were cut off. Lines are merged in time order: by the
`time` member of JSON lines, else by what was noted when the log had grown. Standard library only.
"""

from __future__ import annotations

import heapq
import json
import os
from typing import TYPE_CHECKING

from mesh import clock
from mesh.orchestrator.pieces import Log
from mesh.orchestrator.reader import LINE_BYTES_MAX, Line, Reader, start_of_last

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FOLLOW_S = 0.1
"""Between two looks at the logs: below what a person notices, and no load when all is quiet."""


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
        head = {"time": clock.iso(clock.now_ms()), "level": "info", "message": event}
        line = json.dumps(head | members)
        try:
            os.write(self._file, line.encode() + b"\n")
        except OSError:
            self.lost += 1

    def close(self) -> None:
        """Write no more; what comes later is lost."""
        os.close(self._file)
        self._file = -1


def size(path: Path) -> int:
    """The offset at which a log ends now: all that was ever written to it, in bytes. Never waits."""
    return Log(path).end()


def last_lines(path: Path, count: int, *, since: int = 0) -> tuple[str, ...]:
    """At most `count` lines from the end of one log, none from before offset `since`.

    Never waits, and reads no more than `count` lines may take.
    """
    log = Log(path, settle_s=0)
    since = max(since, log.end() - count * LINE_BYTES_MAX)
    reader = Reader("", log, start_of_last(log, count, since=since))
    return tuple(line.text for line in reader.lines(None, unfinished=True))


def tail(paths: Mapping[str, Path], last: int | None) -> Iterator[Line]:
    """The last lines of each log, merged in time order; streamed, however many.

    Args:
        paths: by program; a log that does not exist is empty.
        last: how many of each; None for all.
    """
    return Follower(paths, last).so_far(unfinished=True)


class Follower:
    """Reads what has been added to each log since the last look, wherever it lies by now."""

    def __init__(
        self,
        paths: Mapping[str, Path],
        last: int | None = 0,
        *,
        since: Mapping[str, int] | None = None,
    ) -> None:
        """Begin `last` lines before the present end of each log; None for its beginning.

        Args:
            since: offsets (of `size`) at which to begin instead, by program.
        """
        self._readers: list[Reader] = []
        for name, path in paths.items():
            log = Log(path)
            offset = (since or {}).get(name)
            start = start_of_last(log, last) if offset is None else offset
            self._readers.append(Reader(name, log, start))

    @property
    def behind(self) -> bool:
        """Whether there may be more to read at once."""
        return any(reader.behind for reader in self._readers)

    def so_far(self, *, unfinished: bool = False) -> Iterator[Line]:
        """Every line up to the present end of each log, merged in time order; streamed.

        Args:
            unfinished: end with the last lines, though they may still grow.
        """
        return _merged(
            reader.lines(reader.log.end(), unfinished=unfinished) for reader in self._readers
        )

    def read(self) -> list[Line]:
        """Every line completed since, at most CHUNK_BYTES of each log, merged in time order."""
        return list(_merged(reader.bite() for reader in self._readers))

    def skip(self, bytes_max: int) -> None:
        """Be at most so far behind in each log: go on further ahead, and count what is missed."""
        for reader in self._readers:
            reader.skip_to(reader.log.end() - bytes_max)

    def missed(self) -> dict[str, int]:
        """Bytes of each program that were gone before they could be read, since last asked."""
        found = {reader.name: reader.missed for reader in self._readers if reader.missed}
        for reader in self._readers:
            reader.missed = 0
        return found


def _merged(sources: Iterable[Iterator[Line]]) -> Iterator[Line]:
    """By time, each log in its own order whatever its clock did."""
    return heapq.merge(*sources, key=lambda line: line.at_ms or 0)
