"""Reads spans back: what is there, then what is added, across the turn of the pieces.

Reads files alone, so it works while nothing runs; a line that is damaged or still being written is
passed over.
"""

from __future__ import annotations

import os
from operator import attrgetter
from typing import TYPE_CHECKING

from mesh import codec
from mesh.tracing.span import Span
from mesh.tracing.store import COMMANDS, NEWER, OLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READ_BYTES_MAX = 1024 * 1024
"""Of one piece at a time: some 6,000 spans, 3 MB of them."""

SELF = "mesh"
"""The name under which the command line's own spans are shown."""

_END = attrgetter("end_us")


class Tail:
    """What all processes of one mesh have recorded. Memory: one number for each file.

    Attributes:
        missed: pieces that went before they were read to their end.
    """

    def __init__(self, data: Path, *, last_bytes: int | None = None) -> None:
        """Begin at the beginning, or `last_bytes` before the end of each newer piece.

        Args:
            data: the mesh's data directory.
        """
        self.missed = 0
        self._data = data
        self._done: dict[int, int] = {}
        if last_bytes is not None:
            for _, folder in self._folders():
                self._skip(folder / OLDER, 0)
                self._skip(folder / NEWER, last_bytes)

    def read(self) -> list[Span]:
        """What was added since, in the order in which it ended; READ_BYTES_MAX of each file."""
        found: list[Span] = []
        seen: dict[int, int] = {}
        for service, folder in self._folders():
            for name in (OLDER, NEWER):
                found += self._more(folder / name, service, seen)
        self.missed += sum(1 for inode in self._done if inode not in seen)
        self._done = seen
        found.sort(key=_END)
        return found

    def everything(self) -> Iterator[Span]:
        """All that is there now, roughly in the order in which it ended."""
        while found := self.read():
            yield from found

    def _folders(self) -> Iterator[tuple[str, Path]]:
        try:
            names = sorted(entry.name for entry in os.scandir(self._data) if entry.is_dir())
        except OSError:
            return
        for name in names:
            yield (SELF if name == COMMANDS else name), self._data / name

    def _skip(self, path: Path, last_bytes: int) -> None:
        try:
            found = path.stat()
        except OSError:
            return
        self._done[found.st_ino] = max(0, found.st_size - last_bytes)

    def _more(self, path: Path, service: str, seen: dict[int, int]) -> list[Span]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return []
        try:
            inode = os.fstat(descriptor).st_ino
            if inode in seen:  # it was the newer piece a moment ago, and has been read as such
                return []
            done = self._done.get(inode, 0)
            raw = os.pread(descriptor, READ_BYTES_MAX, done)
        finally:
            os.close(descriptor)
        end = raw.rfind(b"\n") + 1
        seen[inode] = done + end
        spans = codec.decode_lines(raw[:end], Span)
        for span in spans:
            span.service = service
        return spans
