"""When a file is opened, told by the kernel: how a test sees a lock attempt without a word from it.

inotify(7) says that a file was opened, not by whom: have only one process that may do it.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_IN_OPEN = 0x20
_EVENTS_BYTES = 4096
_libc = ctypes.CDLL(None, use_errno=True)


class Opened:
    """Watches one file while the `with` lasts."""

    def __init__(self, path: Path) -> None:
        """Openings from the beginning of the `with` on are seen."""
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        """Begin."""
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, bytes(self._path), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"inotify on {self._path}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        os.close(self._fd)

    def first_s(self, within_s: float) -> float:
        """When this process was told of the first opening; a little later than it was."""
        if not select.select([self._fd], [], [], within_s)[0]:
            raise AssertionError(f"nobody opened {self._path} in {within_s} s")
        told_s = time.monotonic()
        os.read(self._fd, _EVENTS_BYTES)
        return told_s
