"""The files that hold spans: one a process, in two pieces of bounded size.

Each batch is one O_APPEND write of whole lines, never flushed to the disk: spans outlive a killed
process, not a power cut. When the piece is full it becomes the older one, and the older one goes.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PIECE_BYTES_MAX = 4 * 1024 * 1024
"""Some 25,000 spans; two pieces of each service are a few thousand orders."""

NEWER, OLDER = "spans.ndjson", "spans.1.ndjson"

COMMANDS = "run"
"""The folder in which the command line keeps its own."""


class Store:
    """Appends to one folder's spans. Raises OSError nowhere but at its making."""

    def __init__(self, folder: Path, *, bytes_max: int = PIECE_BYTES_MAX) -> None:
        """Open the newer piece, made if absent, 0600."""
        self._newer, self._older = folder / NEWER, folder / OLDER
        self._bytes_max = bytes_max
        self._torn = False
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._newer, flags, 0o600)

    def append(self, lines: bytes) -> bool:
        """Add whole lines, at most `bytes_max` of them; False when they could not be written."""
        try:
            if os.fstat(self._file).st_size + len(lines) + 1 > self._bytes_max:
                self._turn()
            raw = b"\n" + lines if self._torn else lines
            self._torn = os.write(self._file, raw) < len(raw)
        except OSError:
            return False
        return not self._torn

    def _turn(self) -> None:
        """Begin a new piece, unless another process has just done so."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._file), self._newer.stat()):
                self._newer.replace(self._older)
        os.close(self._file)
        self._open()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)
