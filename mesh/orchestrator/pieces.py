"""One log on disk: the file its program appends to, and the pieces cut from its front.

A program holds the descriptor it was born with, so its file can be neither closed nor replaced:
`keeper` copies it and cuts it to nothing. A byte is known by its *offset*, which counts from the
log's very first byte and never goes back, whatever has been cut since:

    order.log                   is appended to; begins where the newest piece ends
    order.log.000000008388608   a piece, named by the offset at which it begins; never changes
    .order.log.000000016777216  being cut off: right as far as it goes, while the file beside it
                                has been emptied or is about to be
    .order.log.copy             not yet as far; nobody reads it

What is missing between two pieces is gone. An empty piece says where the file begins when nothing
could be kept. A reader takes no lock, so no reader can be in anybody's way: it looks at the names
before and after it reads. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from mesh import clock

if TYPE_CHECKING:
    from pathlib import Path

LOOKS_MAX = 8
"""Times a reader begins again because pieces came or went under its hand; then it comes later."""

SETTLE_S = 0.5
"""A file is emptied within microseconds of being copied. What looks unfinished for longer was left
so by a supervisor that was killed, or changed by other hands."""

_DIGITS = 15
"""Names in order are offsets in order, up to a petabyte."""


class Piece(NamedTuple):
    """A run of bytes, from offset `start` on."""

    start: int
    length: int
    path: Path

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.start + self.length


class Shape(NamedTuple):
    """The pieces of a log, oldest first, and the one being cut off."""

    pieces: tuple[Piece, ...]
    cutting: Piece | None

    @property
    def base(self) -> int:
        """The offset at which the file that is appended to begins."""
        return self.pieces[-1].end if self.pieces else 0

    def settled(self, length: int) -> Shape:
        """What was meant, when whoever cut has died over it and the file is `length` long now.

        A file that was not emptied yet still holds all that was copied.
        """
        if self.cutting is None or length >= self.cutting.length:
            return Shape(self.pieces, None)
        return Shape(tuple(sorted((*self.pieces, self.cutting))), None)


class Log:
    """The bytes of one log by their offsets.

    Args:
        settle_s: how long to take what looks unfinished for the work of the present moment.

    Attributes:
        unsettled: the latest read found nothing because of that; soon it will.
    """

    def __init__(self, path: Path, *, settle_s: float | None = None) -> None:
        """Nothing is opened; a log that does not exist is empty."""
        self.path = path
        self.unsettled = False
        self._name = str(path)
        self._settle_s = SETTLE_S if settle_s is None else settle_s
        self._doubt = ("", 0.0)

    def piece(self, start: int) -> Path:
        """The name of the piece that begins there."""
        return self.path.with_name(f"{self.path.name}.{start:0{_DIGITS}d}")

    def cutting(self, start: int) -> Path:
        """Its name while it is being cut off."""
        return self.path.with_name(f".{self.piece(start).name}")

    @property
    def copy(self) -> Path:
        """Its name while it is being copied."""
        return self.path.with_name(f".{self.path.name}.copy")

    def length(self) -> int:
        """Bytes in the file that is appended to; 0 if there is none."""
        try:
            return os.stat(self._name).st_size  # noqa: PTH116  (asked ten times a second for ever)
        except OSError:
            return 0

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes whenever something is appended, cheaply."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def shape(self) -> Shape:
        """The pieces that there are now."""
        for _ in range(LOOKS_MAX):
            try:
                with os.scandir(self.path.parent) as entries:
                    names = [entry.name for entry in entries]
            except OSError:
                break
            with contextlib.suppress(OSError):  # renamed or removed since
                pieces = self._measured(names, f"{self.path.name}.")
                cutting = self._measured(names, f".{self.path.name}.")
                return Shape(pieces, cutting[-1] if cutting else None)
        return Shape((), None)

    def _measured(self, names: list[str], prefix: str) -> tuple[Piece, ...]:
        ends = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        found = ((int(end), self.path.with_name(prefix + end)) for end in ends if end.isdecimal())
        return tuple(Piece(start, path.stat().st_size, path) for start, path in sorted(found))

    def first(self) -> int:
        """The offset of the oldest byte that is left."""
        shape = self.shape()
        lengthy = [piece.start for piece in shape.pieces if piece.length]
        return lengthy[0] if lengthy else shape.base

    def end(self) -> int:
        """The offset behind the newest byte. Never waits."""
        shape, end = self.shape(), 0
        for _ in range(LOOKS_MAX):
            length = self.length()
            end = shape.settled(length).base + length
            before, shape = shape, self.shape()
            if shape == before:
                break
        return end

    def read(self, offset: int, count: int) -> tuple[int, bytes]:
        """The next bytes, `count` at most, from one place.

        Returns: where they begin, and they. Later than `offset` if what was there is gone;
            earlier if the log is shorter than that and begins anew. Nothing at its end.
        """
        self.unsettled = False
        for _ in range(LOOKS_MAX):
            seen = self.shape()
            shape = seen
            if seen.cutting is not None and self._stays(seen.cutting.path.name):
                shape = seen.settled(self.length())
            places = shape.pieces if shape.cutting is None else (*shape.pieces, shape.cutting)
            holding = next((piece for piece in places if piece.length and piece.end > offset), None)
            if holding is not None:
                at = max(offset, holding.start)
                found = _read(holding.path, at - holding.start, min(count, holding.end - at))
                if found:
                    return at, found
                continue  # removed since, or it has its final name now
            if shape.cutting is not None:
                self.unsettled = True
                return offset, b""
            at = max(offset, shape.base)
            found = _read(self.path, at - shape.base, count)
            if not found and at - shape.base > self.length():
                if not self._stays("shorter"):
                    self.unsettled = True
                    return offset, b""
                at, found = shape.base, _read(self.path, 0, count)
            if self.shape() == seen:
                if found and seen.cutting is None:
                    self._doubt = ("", 0.0)
                return at, found
        self.unsettled = True
        return offset, b""

    def _stays(self, what: str) -> bool:
        """Whether this has looked unfinished for too long to be so."""
        now_s = clock.monotonic_s()
        if self._doubt[0] != what:
            self._doubt = (what, now_s)
        return now_s - self._doubt[1] >= self._settle_s


def _read(path: Path, position: int, count: int) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(position)
            return file.read(count)
    except OSError:
        return b""
