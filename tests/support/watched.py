"""A terminal with a person before it: what a dashboard draws is read as its cells."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

import pyte

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLUMNS, ROWS = 120, 36
ALTERNATE = 1049 << 5
"""How pyte keeps the private mode of the alternate screen."""


class Watched:
    """`mesh ARGS` in a terminal of this size; killed at the end, whatever happens.

    Attributes:
        raw: every byte so far. before: the terminal's attributes when it was new.
    """

    def __init__(
        self,
        directory: Path,
        *args: str,
        columns: int = COLUMNS,
        rows: int = ROWS,
        **environment: str,
    ) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, rows)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.before = termios.tcgetattr(self._theirs)
        self.raw = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mesh", *args],
            cwd=directory,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "NO_COLOR"))},
                "MESH_FREE_PORTS": "1",
                "TERM": "xterm-256color",
                "PYTHONUTF8": "1",
                **environment,
            },
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for each in (self._ours, self._theirs):
            if each >= 0:
                os.close(each)

    @property
    def shown(self) -> str:
        """What is on the screen now."""
        return "\n".join(row.rstrip() for row in self._screen.display)

    @property
    def said(self) -> str:
        """Every byte so far as text: a picture that is cut short may end amid a character."""
        return self.raw.decode(errors="replace")

    @property
    def row(self) -> str:
        """The last row: the keys, or what is asked."""
        return self._screen.display[-1].rstrip()

    def attributes(self) -> list[object]:
        """The terminal's, now."""
        return termios.tcgetattr(self._theirs)

    def until(self, wanted: Callable[[str], object] | str, within_s: float = 60.0) -> str:
        """Read until the screen shows it; the screen."""
        seen = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        deadline_s = time.monotonic() + within_s
        while not seen(self.shown):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"never shown: {wanted!r}\n{self.shown}"
            self.read(left_s)
        return self.shown

    def read(self, within_s: float) -> bytes:
        """What comes next, if anything does."""
        if not select.select([self._ours], [], [], within_s)[0]:
            return b""
        try:
            got = os.read(self._ours, 65536)
        except OSError:
            got = b""
        self.raw += got
        self._stream.feed(got)
        return got

    def drain(self) -> None:
        """Read what is left once the process has ended."""
        while self.read(0.1):
            pass

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Another size, as a window manager makes it; the kernel tells the foreground."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)
        if hasattr(self, "_screen"):
            self._screen.resize(rows, columns)
            self.process.send_signal(signal.SIGWINCH)

    def hang_up(self) -> None:
        """Close the window."""
        for each in (self._ours, self._theirs):
            os.close(each)
        self._ours = self._theirs = -1

    def left(self, within_s: float = 60.0) -> int:
        """Wait for the process, which must have given the terminal back; its exit code."""
        deadline_s = time.monotonic() + within_s
        while self.process.poll() is None and time.monotonic() < deadline_s:
            self.read(0.05)
        code = self.process.wait(0.1)
        self.drain()
        assert self.attributes() == self.before, "the terminal's attributes"
        self.assert_screen_restored()
        return code

    def assert_screen_restored(self) -> None:
        """The normal screen, with a cursor, and lines that wrap."""
        for name, on, off in (
            ("the normal screen", b"\x1b[?1049l", b"\x1b[?1049h"),
            ("a cursor", b"\x1b[?25h", b"\x1b[?25l"),
            ("lines that wrap", b"\x1b[?7h", b"\x1b[?7l"),
        ):
            assert self.raw.rfind(on) >= self.raw.rfind(off), name
