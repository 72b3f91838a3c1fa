"""Text made fit for a terminal: no byte of data acts there as anything but visible text.

Pure, and of no colour: what a style looks like is decided where things are printed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Style = Literal["good", "warn", "bad", "faint", "strong", "blue", "cyan", "magenta"]
Part = str | tuple[str, Style]
"""Text from anywhere, or such a text with a style."""

HUES: tuple[Style, ...] = ("cyan", "magenta", "blue", "good", "warn")
"""Styles that tell names apart; which of them a name has means nothing."""

_NO_WIDTH = {"Mn", "Me"}
"""Marks that a terminal puts on the character before."""

_FOREIGN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but newline and tab, DEL, C1
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # invisible
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, line separators, bidi
    "\u3164\ufeff\uffa0\ufff9-\uffff"  # fillers, byte order mark, annotations
    "\ud800-\udfff"  # lone surrogates, which no stream can encode
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # invisible, tags
    "]"
)


def clean(text: str) -> str:
    """The text with every control, bidi and invisible character as a visible JSON escape.

    Newline and tab stay. Inside JSON text the escapes are valid JSON.
    """
    return _FOREIGN.sub(lambda found: json.dumps(found.group())[1:-1], text)


def clean_line(text: str) -> str:
    """The same for one line: a newline shows as an escape too, so data cannot forge lines."""
    return clean(text).replace("\n", "\\n")


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(char) in _NO_WIDTH
        else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def cut(text: str, width: int, end: str = "…") -> str:
    """At most `width` cells, the rest replaced by `end` where it does not fit."""
    if cells(text) <= width:
        return text
    room = width - len(end)
    for place, char in enumerate(text):
        room -= cells(char)
        if room < 0:
            return text[:place] + end[: max(0, width)]
    return text


def folded(line: Sequence[Part], width: int) -> list[list[Part]]:
    """The line in pieces of at most `width` cells; only a single word may be wider.

    Words with one space between them stay together where they can. What follows the first piece
    begins under the line's second column, or near the edge if it has none.
    """
    words = _words(line)
    columns = [place for gap, place, _, _ in words[1:] if gap > 1] or [2]
    indent = min(columns[0], width // 2)
    pieces: list[list[Part]] = [[]]
    used = 0
    for n, (between, _, word, style) in enumerate(words):
        gap, long = between, cells(word)
        if gap > 1:
            together = takewhile(lambda each: each[0] == 1, words[n + 1 :])
            whole = long + sum(1 + cells(each[2]) for each in together)
            long = whole if whole <= width - indent else long
        if gap and pieces[-1] and used + gap + long > width:
            pieces.append([])
            used, gap = 0, indent
        pieces[-1].append(" " * gap + word if style is None else (" " * gap + word, style))
        used += gap + cells(word)
    return pieces


def _words(line: Sequence[Part]) -> list[tuple[int, int, str, Style | None]]:
    """Each word of a line: the spaces before it, the cell where it begins, itself, and its style."""
    found: list[tuple[int, int, str, Style | None]] = []
    gap = place = 0
    for part in line:
        text, style = (part, None) if isinstance(part, str) else part
        for n, word in enumerate(text.split(" ")):
            gap += n > 0
            if word:
                found.append((gap, place + gap, word, style))
                place, gap = place + gap + cells(word), 0
    return found


def hue(name: str, names: Sequence[str]) -> Style:
    """The style in which `name` is told apart from the other `names`."""
    return HUES[names.index(name) % len(HUES)] if name in names else "faint"


def age(seconds: object) -> str:
    """`4s`, `12m04s`, `3h05m`, `2d`; `-` for what is no number."""
    if not isinstance(seconds, int | float):
        return "-"
    whole = int(seconds)
    minutes, hours = whole // 60, whole // 3600
    if hours >= 48:  # noqa: PLR2004  (two days: from here on hours say nothing)
        return f"{hours // 24}d"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"
