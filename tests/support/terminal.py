"""A terminal of its own for one command, as a person has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Terminal:
    """`mesh ARGS` as the foreground of a new terminal.

    Attributes:
        screen: everything printed so far.
    """

    def __init__(
        self, directory: Path, *args: str, before: Sequence[str] = (), **environment: str
    ) -> None:
        """`before`: what Python is told instead, and runs `python -m mesh ARGS` itself."""
        ours, theirs = pty.openpty()
        self.screen = b""
        self._fd = ours
        self.process = subprocess.Popen(
            [sys.executable, *before, "-m", "mesh", *args],
            cwd=directory,
            env={**os.environ, "MESH_FREE_PORTS": "1", "TERM": "xterm", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def read_until(self, pattern: bytes, within_s: float = 60.0) -> None:
        """Read what is printed until `pattern` is in it."""
        deadline_s = time.monotonic() + within_s
        while not re.search(pattern, self.screen):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, self.screen[-4000:].decode(errors="replace")
            if select.select([self._fd], [], [], left_s)[0]:
                try:
                    self.screen += os.read(self._fd, 65536)
                except OSError:  # the last one who had it open is gone
                    assert re.search(pattern, self.screen), self.screen[-4000:].decode("utf-8")

    def read_until_quiet(self, for_s: float = 0.5) -> None:
        """Read what is printed until nothing has been for a while."""
        while select.select([self._fd], [], [], for_s)[0]:
            self.screen += os.read(self._fd, 65536)

    def type(self, keys: bytes) -> None:
        """Press these keys; `\\x03` is Ctrl-C."""
        os.write(self._fd, keys)

    def hang_up(self) -> None:
        """Close the terminal's window."""
        os.close(self._fd)
