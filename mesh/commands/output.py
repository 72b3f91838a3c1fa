"""The one look: everything this program prints leaves through here.

Data goes to stdout; progress, hints and errors to stderr. No byte of data reaches the terminal
as anything but visible text: escape sequences are made here and nowhere else, from a fixed
table. Refuses to interpret markup of any kind, and never tells something by colour alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Literal, Self, TextIO

from mesh import text as plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesh.errors import MeshError

ColorMode = Literal["auto", "always", "never"]
Style = plain.Style
Part = plain.Part
cells, clean, clean_line, cut = plain.cells, plain.clean, plain.clean_line, plain.cut
hue = plain.hue

_CODES: dict[Style, str] = {
    "good": "32",
    "warn": "33",
    "bad": "31",
    "faint": "2",
    "strong": "1",
    "blue": "34",
    "cyan": "36",
    "magenta": "35",
}

_CELL_MIN = 8
"""A column squeezed to fit the terminal keeps at least this many cells."""


class ReaderGone(BrokenPipeError):
    """Nobody reads our output any more (`mesh logs | head`, a closed window); not a failure."""


class _Look:
    """What the command line says of colours; set once, at the door."""

    color: ColorMode = "auto"


_look = _Look()


def configure(color: ColorMode) -> None:
    """Choose when to colour: `auto` = on a terminal, unless NO_COLOR is set or TERM is dumb."""
    _look.color = color


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether stdout (or `stream`) is a terminal."""
    return (stream or sys.stdout).isatty()


def unicode_able() -> bool:
    """Whether stdout takes more than ASCII, so that lines can be drawn."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def drawable() -> bool:
    """Whether stdin and stdout are a terminal that can be drawn on."""
    terminals = sys.stdin.isatty() and sys.stdout.isatty()
    return terminals and os.environ.get("TERM", "dumb") not in {"", "dumb"}


def coloured(stream: TextIO) -> bool:
    """Whether what is printed there has colours."""
    if _look.color != "auto":
        return _look.color == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


_ASCII = {ord("✓"): "+", ord("✗"): "x", ord("…"): "..."}
"""Signs of our own, for a terminal that has them not."""


def _write(stream: TextIO, text: str) -> None:
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # a terminal that is not UTF-8
            encoding = stream.encoding or "ascii"
            plain = text.translate(_ASCII)
            stream.write(plain.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        if error.errno in {errno.EPIPE, errno.EIO}:  # a pipe's end, a terminal's window
            raise ReaderGone from None
        raise


def _painted(text: str, style: Style | None, *, colours: bool) -> str:
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if colours and style and text else text


def _styled(part: Part) -> tuple[str, Style | None]:
    return part if isinstance(part, tuple) else (part, None)


def _line(stream: TextIO, parts: Sequence[Part]) -> None:
    colours = coloured(stream)
    text = "".join(
        _painted(clean_line(text), style, colours=colours) for text, style in map(_styled, parts)
    )
    _write(stream, text + "\n")


class Live:
    """A few lines on stderr that are drawn again in their place; nothing where no terminal is.

    What is printed otherwise meanwhile belongs after `clear`.
    """

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self.drawn = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        self._lines = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(ReaderGone):
            self.clear()

    def show(self, lines: Sequence[Sequence[Part]]) -> None:
        """Draw these in place of the last ones, each cut to the terminal's width."""
        if not self.drawn:
            return
        columns = shutil.get_terminal_size().columns - 1
        colours = coloured(sys.stderr)
        text = ""
        for line in lines:
            left = columns
            for value, style in map(_styled, [line] if isinstance(line, str) else line):
                shown = cut(clean_line(value), left) if left > 0 else ""
                left -= cells(shown)
                text += _painted(shown, style, colours=colours)
            text += "\x1b[K\n"
        fewer = "\x1b[J" if len(lines) < self._lines else ""
        _write(sys.stderr, self._back() + text + fewer)
        self._lines = len(lines)

    def clear(self) -> None:
        """Take the lines away again."""
        if self._lines:
            _write(sys.stderr, self._back() + "\x1b[J")
            self._lines = 0

    def _back(self) -> str:
        return f"\x1b[{self._lines}F" if self._lines else ""


def out(*parts: Part) -> None:
    """One line of data on stdout."""
    _line(sys.stdout, parts)


def fits(*parts: Part) -> bool:
    """Whether they are one line on the terminal; where none is, everything is."""
    width = sum(cells(text) for text, _ in map(_styled, parts))
    return not is_terminal() or width <= shutil.get_terminal_size().columns


def row(*parts: Part) -> None:
    """One line of data, on a terminal in as many pieces as its width makes necessary."""
    whole = not is_terminal()
    for piece in [parts] if whole else plain.folded(parts, shutil.get_terminal_size().columns):
        _line(sys.stdout, piece)


def note(*parts: Part) -> None:
    """One line of progress, warning or hint on stderr."""
    _line(sys.stderr, parts)


def block(text: str) -> None:
    """Several lines of data on stdout, newlines kept."""
    _write(sys.stdout, clean(text).rstrip("\n") + "\n")


def note_block(text: str) -> None:
    """Several lines on stderr, newlines kept."""
    _write(sys.stderr, clean(text).rstrip("\n") + "\n")


def json_block(value: object) -> None:
    """Plain values as indented JSON for a person, on stdout."""
    block(json.dumps(value, indent=2, ensure_ascii=False))


def json_line(value: object) -> None:
    """A snapshot, or one object of a stream, for a program: ASCII, one line, flushed."""
    from mesh import codec  # noqa: PLC0415  (costs a third of a bare `mesh ps`)

    _write(sys.stdout, codec.encode_text(value) + "\n")


def table(head: Sequence[str], rows: Sequence[Sequence[Part]]) -> None:
    """Aligned columns on stdout. Numbers and blanks are the caller's text, `-` for unknown.

    On a terminal the widest column gives way so that lines fit; piped, nothing is cut.
    """
    lines: list[list[tuple[str, Style | None]]] = [
        [(clean_line(text).replace("\t", "\\t"), style) for text, style in map(_styled, row)]
        for row in ([(title, "strong") for title in head], *rows)
    ]
    widths = [max(cells(line[n][0]) for line in lines) for n in range(len(head))]
    if is_terminal():
        spare = shutil.get_terminal_size().columns - sum(widths) - 2 * (len(head) - 1)
        widest = max(range(len(head)), key=widths.__getitem__)
        if spare < 0:
            widths[widest] = max(_CELL_MIN, widths[widest] + spare)
    colours = coloured(sys.stdout)
    for line in lines:
        text = ""
        for (value, style), width in zip(line, widths, strict=True):
            shown = cut(value, width)
            pad = " " * (width - cells(shown) + 2)
            text += _painted(shown, style, colours=colours) + pad
        _write(sys.stdout, text.rstrip() + "\n")


def failure(error: MeshError) -> None:
    """The one shape of an error: what failed [code], the evidence, what to do next."""
    first, *more = error.detail.split("\n")
    note(("error:", "bad"), f" {first}  ", (f"[{error.code}]", "faint"))
    for line in (*more, *error.evidence):
        note("    ", line)
    if error.hint:
        note(("hint:", "cyan"), f" {error.hint}")


def confirm(question: str) -> bool:
    """Ask on stderr, read stdin; anything but y or yes is no. Only for a terminal."""
    _write(sys.stderr, clean_line(question) + " [y/N] ")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
