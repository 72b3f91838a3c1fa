"""The terminal: taken, drawn on, and given back as it was on every way out.

Drawing never waits: what a held terminal (Ctrl-S) does not take is kept, one screen of it, and
nothing is drawn until that is gone. Only rows that differ are written. No mouse is asked for, so
that the terminal's own selection works.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import termios
from typing import TYPE_CHECKING

from rich.color import ColorSystem
from rich.style import Style

from mesh.dashboard.picture import STYLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.dashboard.picture import Picture, Row

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The alternate screen, no cursor, no wrapping at the edge, blank."""

LEAVE = "\x18\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
"""All that undone; the first byte ends a sequence that was cut off."""

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Drawn at once by terminals that know this, so that nothing tears."""

LEAVE_S = 1.0
"""How long a held terminal is waited for at the end."""

READ_BYTES = 4096

SIZE_MAX = 1000
"""Columns or rows; more is a broken terminal."""

SIZE_UNKNOWN = (80, 24)
"""Of a terminal that does not say."""

_LFLAG, _CC = 3, 6


Attributes = list[int | list[bytes | int]]
"""What termios calls them."""


def unicode_able() -> bool:
    """Whether the terminal takes more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def ansi(row: Row, *, colours: bool) -> str:
    """A row with the sequences of its styles; without colours, bold, faint and reverse stay."""
    system = ColorSystem.STANDARD
    return "".join(
        (STYLES[tone] if colours else _PALE[tone]).render(piece, color_system=system)
        for piece, tone in row
    )


_PALE = {tone: Style(bold=s.bold, dim=s.dim, reverse=s.reverse) for tone, s in STYLES.items()}


def restore(attributes: Attributes) -> None:
    """Give back what a dashboard that was killed has left as it was in."""
    _unhold(1)
    os.write(1, LEAVE.encode())
    termios.tcsetattr(0, termios.TCSANOW, attributes)


def _unhold(descriptor: int) -> None:
    """Undo Ctrl-S: what is held cannot be given back."""
    for flow in (termios.TCOOFF, termios.TCOON):
        termios.tcflow(descriptor, flow)


class Terminal:
    """Stdin and stdout, which are one terminal.

    Args:
        typed: given what was typed. hung_up: called once when the terminal is gone.
    """

    def __init__(
        self, *, colours: bool, typed: Callable[[str], None], hung_up: Callable[[], None]
    ) -> None:
        """Nothing is touched before `take`."""
        self._colours = colours
        self._typed = typed
        self._hung_up = hung_up
        self._saved = termios.tcgetattr(0)
        # A description of our own: not to wait is nobody else's choice.
        flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        self._out = os.open(os.ttyname(1), flags)
        self._loop = asyncio.get_running_loop()
        self._left = b""
        self._shown: Picture | None = None
        self._taken = self._gone = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        columns, rows = SIZE_UNKNOWN
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(self._out)
            columns, rows = found.columns or columns, found.lines or rows
        return min(columns, SIZE_MAX), min(rows, SIZE_MAX)

    @property
    def busy(self) -> bool:
        """Whether it has not yet taken all that was drawn."""
        return bool(self._left)

    def take(self) -> None:
        """Have keys at once and unechoed, and the alternate screen."""
        attributes = termios.tcgetattr(0)
        attributes[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        attributes[_CC][termios.VMIN], attributes[_CC][termios.VTIME] = 1, 0
        self._taken = True
        termios.tcsetattr(0, termios.TCSANOW, attributes)
        self._shown = None
        self._loop.add_reader(0, self._read)
        self._write(ENTER)

    def give_back(self) -> None:
        """The terminal as it was; never waits longer than LEAVE_S. Idempotent."""
        if not self._taken:
            return
        self._taken = False
        self._loop.remove_reader(0)
        self._loop.remove_writer(self._out)
        cut, self._left = bool(self._left), b""
        leave = (LEAVE if cut else LEAVE[1:]).encode()
        with contextlib.suppress(OSError, termios.error):
            _unhold(self._out)
            self._insist(leave)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, self._saved)

    def close(self) -> None:
        """Give it back, and be done with it."""
        self.give_back()
        os.close(self._out)

    def forget(self) -> None:
        """Draw everything anew the next time: its size has changed."""
        self._shown = None

    def draw(self, picture: Picture) -> None:
        """Show it; what is there already is not written again."""
        old = self._shown.rows if self._shown is not None else ()
        parts = [] if old else ["\x1b[2J"]
        for number, row in enumerate(picture.rows):
            if number >= len(old) or old[number] != row:
                parts.append(f"\x1b[{number + 1};1H{ansi(row, colours=self._colours)}")
        self._shown = picture
        if parts:
            self._write("".join([BEGIN, *parts, END]))

    def _write(self, text: str) -> None:
        self._left += text.encode("utf-8", "replace")
        self._flush()

    def _flush(self) -> None:
        try:
            while self._left:
                self._left = self._left[os.write(self._out, self._left) :]
        except BlockingIOError:
            self._loop.add_writer(self._out, self._flush)
            return
        except OSError:
            self._left = b""
            self._hang_up()
        self._loop.remove_writer(self._out)

    def _insist(self, raw: bytes) -> None:
        """Write it although the terminal may be held for a moment."""
        while raw:
            if not select.select([], [self._out], [], LEAVE_S)[1]:
                return
            raw = raw[os.write(self._out, raw) :]

    def _read(self) -> None:
        try:
            raw = os.read(0, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if raw:
            self._typed(raw.decode("utf-8", "replace"))
        else:
            self._loop.remove_reader(0)
            self._hang_up()

    def _hang_up(self) -> None:
        if not self._gone:
            self._gone = True
            self._hung_up()
