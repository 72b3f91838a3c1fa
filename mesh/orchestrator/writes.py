"""Waits until something in some folders is written, by inotify(7). Standard library only.

Where the kernel has no watch to give, everything counts as being written at any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_IN_MODIFY = 0x2
_TAKEN_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Writes:
    """What is written in some folders. One thread waits, any may end that."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Watch from now on."""
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._watch = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        wanted = [os.fsencode(folder) for folder in folders]
        self._blind = self._watch < 0 or any(
            _libc.inotify_add_watch(self._watch, each, _IN_MODIFY) < 0 for each in wanted
        )

    def wait(self, most_s: float) -> bool:
        """Until something has been written since the last time, or so long. False: it was ended."""
        if self._blind:
            return self.rest(0)
        if not self._poll(most_s, self._watch):
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._watch, _TAKEN_BYTES):
                pass
        return True

    def rest(self, for_s: float) -> bool:
        """So long, whatever is written: `wait` ends at once then. False: it was ended."""
        return self._poll(for_s)

    def end(self) -> None:
        """Nobody is to wait any more."""
        os.eventfd_write(self._ended, 1)

    def close(self) -> None:
        """Let go of the descriptors; nobody waits, and nothing is to be ended any more."""
        for descriptor in (self._ended, self._watch):
            if descriptor >= 0:
                os.close(descriptor)

    def _poll(self, most_s: float, *also: int) -> bool:
        poll = select.poll()
        for descriptor in (self._ended, *(each for each in also if each >= 0)):
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(most_s * 1000)
        return all(descriptor != self._ended for descriptor, _ in ready)
