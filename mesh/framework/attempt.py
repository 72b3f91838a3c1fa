"""Which event is being handled, written where it survives the process but costs no commit.

A listener that ends the process (`os._exit`, a crash in native code, memory) reaches no handler of
errors. So before each call its event's place is put into a page of a file that is mapped into memory:
what is written there is the kernel's at once and outlives the process. It need not outlive the
machine: a power cut is nobody's fault.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path

STREAM_BYTES_MAX = 32
"""A stream is a service's name: at most 31 characters."""

_PLACE = struct.Struct(f">{STREAM_BYTES_MAX}sIQ")


class Attempt(Struct, frozen=True):
    """The event that was being handled when the process ended."""

    stream: str
    epoch: int
    seq: int


class AttemptMark:
    """The mark of one service. `set` and `clear` belong to the transaction that handles the event."""

    def __init__(self, path: Path) -> None:
        """Map the file, made if absent, 0600. Raises: OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            os.ftruncate(descriptor, _PLACE.size)
            self._page = mmap.mmap(descriptor, _PLACE.size)
        finally:
            os.close(descriptor)

    def take(self) -> Attempt | None:
        """What an earlier process left; forgotten by this."""
        stream, epoch, seq = _PLACE.unpack(self._page[:])
        self.clear()
        if not stream[0]:
            return None
        return Attempt(stream.rstrip(b"\0").decode("ascii", "replace"), epoch, seq)

    def set(self, stream: str, epoch: int, seq: int) -> None:
        """This one is handled now."""
        _PLACE.pack_into(self._page, 0, stream.encode(), epoch, seq)

    def clear(self) -> None:
        """None is."""
        self._page[0] = 0

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._page.close()
