"""The socket by which any program may say what ours say on their pipe (sd_notify(3)).

    READY=1   WATCHDOG=1   STATUS=…   STOPPING=1

One a program, in the mesh's own folder (0700); its path is in the program's NOTIFY_SOCKET. A
program that has said WATCHDOG=1 once must go on saying it, as WATCHDOG_USEC tells it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from mesh.orchestrator.restart import WATCHDOG_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MESSAGE_BYTES_MAX = 4096
"""Longer ones are cut: no word that is listened to needs more."""

MESSAGES_AT_ONCE_MAX = 64
"""Taken before others have their turn."""

_US_PER_S = 1_000_000


class NotifySocket:
    """Listens until it is closed. Make it on the running loop, under the mesh's lock.

    Args:
        on_word: called with each line that is said.
    """

    def __init__(self, path: Path, on_word: Callable[[str], None]) -> None:
        """Bind and begin to listen."""
        self._path = path
        self._on_word = on_word
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(str(path))
            path.chmod(0o600)
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a program of it."""
        return {
            "NOTIFY_SOCKET": str(self._path),
            "WATCHDOG_USEC": str(round(WATCHDOG_S * _US_PER_S)),
        }

    def close(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _hear(self) -> None:
        for _ in range(MESSAGES_AT_ONCE_MAX):
            with contextlib.suppress(BlockingIOError):
                said = self._socket.recv(MESSAGE_BYTES_MAX)
                for line in said.decode("utf-8", "replace").splitlines():
                    self._on_word(line)
                continue
            return
