"""Reads spans back: what is there, then what is added, across the turn of the pieces.

Reads files alone, so it works while nothing runs; a line that is damaged or still being written is
passed over.
"""

from __future__ import annotations

import contextlib
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

_NAME_BYTES = 53
"""A piece is known by its first span's ids, since the system gives a dead file's number again."""

_NO_PREFIX = 2
"""Bytes before an id."""

_END = attrgetter("end_us")


class Tail:
    """What all processes of one mesh have recorded. Memory: one number for each file.

    Attributes:
        missed: pieces that went before their end was seen.
    """

    def __init__(
        self,
        data: Path,
        *,
        last_bytes: int | None = None,
        places: dict[bytes, int] | None = None,
        prefix: str = "",
    ) -> None:
        """Begin at the beginning, or `last_bytes` before the end of each newer piece.

        Args:
            data: the mesh's data directory.
            places: what an earlier one has read, to go on from there.
            prefix: read only stories whose id begins so; cheaper than to choose afterwards.
        """
        self._wanted = b'["' + prefix.encode()
        self.missed = 0
        self._data = data
        self._done = dict(places or {})
        self._ended: set[bytes] = set()
        if last_bytes is not None:
            for _, folder in self._folders():
                self._skip(folder / OLDER, 1)
                self._skip(folder / NEWER, last_bytes)

    def read(self) -> list[Span]:
        """What was added since, in the order in which it ended; READ_BYTES_MAX of each file."""
        found: list[Span] = []
        seen: dict[bytes, int] = {}
        for service, folder in self._folders():
            for name in (OLDER, NEWER):
                found += self._more(folder / name, service, seen)
        gone = self._done.keys() - seen.keys()
        self.missed += len(gone - self._ended)
        self._ended -= gone
        self._done = seen
        found.sort(key=_END)
        return found

    def everything(self) -> Iterator[Span]:
        """All that is there now, roughly in the order in which it ended."""
        before = None
        while before != self._done:
            before = self._done
            yield from self.read()

    @property
    def places(self) -> dict[bytes, int]:
        """How far each piece was read."""
        return self._done

    def _folders(self) -> Iterator[tuple[str, Path]]:
        try:
            names = sorted(entry.name for entry in os.scandir(self._data) if entry.is_dir())
        except OSError:
            return
        for name in names:
            yield (SELF if name == COMMANDS else name), self._data / name

    def _skip(self, path: Path, last_bytes: int) -> None:
        with contextlib.suppress(OSError), path.open("rb") as file:
            name = file.read(_NAME_BYTES)
            before = os.fstat(file.fileno()).st_size - last_bytes
            if before > 0:
                file.seek(before - 1)
                file.readline()  # from the next whole line on
                self._done[name] = file.tell()

    def _more(self, path: Path, service: str, seen: dict[bytes, int]) -> list[Span]:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return []
        try:
            piece = os.pread(descriptor, _NAME_BYTES, 0)
            if len(piece) < _NAME_BYTES or piece in seen:  # seen: it has just become the older one
                return []
            done = self._done.get(piece, 0)
            raw = os.pread(descriptor, READ_BYTES_MAX, done)
        finally:
            os.close(descriptor)
        end = raw.rfind(b"\n") + 1
        seen[piece] = done + end
        if path.name == OLDER and end == len(raw) < READ_BYTES_MAX:
            self._ended.add(piece)
        lines = raw[:end]
        if len(self._wanted) > _NO_PREFIX:
            lines = b"\n".join(line for line in lines.split(b"\n") if line.startswith(self._wanted))
        spans = codec.decode_lines(lines, Span)
        for span in spans:
            span.service = service
        return spans
