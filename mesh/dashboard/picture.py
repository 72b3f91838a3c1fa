"""Rows of styled cells, exactly as wide and high as asked: what a view draws with.

A picture is a value, so that two of them can be compared row by row, and a rich renderable. Every
text passes `fit`, which lets no byte of data through but as visible text.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from rich.segment import Segment
from rich.style import Style as RichStyle

from mesh import text
from mesh.text import Style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions

Tone = Style | Literal["plain", "selected", "alarm"]
Piece = tuple[str, Tone]
"""Text that is fit already, and how it looks."""

Row = tuple[Piece, ...]

STYLES: dict[Tone, RichStyle] = {
    "plain": RichStyle(),
    "good": RichStyle(color="green"),
    "warn": RichStyle(color="yellow"),
    "bad": RichStyle(color="red", bold=True),
    "faint": RichStyle(dim=True),
    "strong": RichStyle(bold=True),
    "blue": RichStyle(color="blue"),
    "cyan": RichStyle(color="cyan"),
    "magenta": RichStyle(color="magenta"),
    "selected": RichStyle(reverse=True),
    "alarm": RichStyle(reverse=True, bold=True),
}
"""Of the terminal's own sixteen colours, so that they suit its background."""


class Look(Struct, frozen=True):
    """The characters that draw: with a word beside them, so that none has to be known."""

    box: str
    focus: str
    bars: str  # of the critical path, of others, of waiting
    spark: str
    states: dict[str, str]
    cursor: str
    arrow: str
    down: str
    up: str
    end: str
    at_most: str
    tell: str
    ascii: bool = False


UNICODE = Look(
    box="╭╮╰╯─│",
    focus="┏┓┗┛━┃",
    bars="━─╌",
    spark="▁▂▃▄▅▆▇█",
    states={
        "ready": "●",
        "degraded": "▲",
        "starting": "◌",
        "stopping": "◌",
        "backoff": "↻",
        "failed": "✖",
        "stopped": "○",
    },
    cursor="▸",
    arrow="→",
    down="▼",
    up="▲",
    end="…",
    at_most="≤",
    tell="⇒",
)
ASCII = Look(
    box="++++-|",
    focus="####=#",
    bars="=-.",
    spark="_.-~=+*#",
    states={
        "ready": "*",
        "degraded": "!",
        "starting": "~",
        "stopping": "~",
        "backoff": "~",
        "failed": "X",
        "stopped": "o",
    },
    cursor=">",
    arrow="->",
    down="v",
    up="^",
    end="..",
    at_most="<=",
    tell="=>",
    ascii=True,
)


class Picture(Struct, frozen=True):
    """Rows from the top, each of `width` cells."""

    width: int
    rows: tuple[Row, ...]

    @property
    def plain(self) -> str:
        """The rows as text alone."""
        return "\n".join("".join(piece for piece, _ in row) for row in self.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for row in self.rows:
            yield from segments(row)
            yield Segment.line()


def segments(row: Row) -> Iterator[Segment]:
    """One row for rich."""
    for piece, tone in row:
        yield Segment(piece, STYLES[tone])


def safe(value: str, look: Look) -> str:
    """The text with nothing in it that acts on a terminal, on one line."""
    if not (value.isascii() and value.isprintable()):
        value = text.clean_line(value).replace("\t", "\\t")
        if look.ascii:
            value = value.encode("ascii", "backslashreplace").decode()
    return value


CHARS_A_CELL = 8
"""More characters than this for each cell there is are not even looked at."""


def fit(value: str, width: int, look: Look, *, right: bool = False) -> str:
    """The text in exactly `width` cells: cut or padded, on the left if it is a number."""
    if width <= 0:
        return ""
    value = safe(value[: width * CHARS_A_CELL], look)
    if text.cells(value) > width:
        value = text.cut(value, width, look.end)
    pad = " " * (width - text.cells(value))
    return pad + value if right else value + pad


def exact(pieces: Iterable[Piece], width: int, look: Look) -> Row:
    """One row of exactly `width` cells."""
    row: list[Piece] = []
    left = width
    for piece, tone in pieces:
        took = text.cells(piece)
        if took > left:
            if left:
                row.append((fit(piece, left, look), tone))
            left = 0
            break
        if took:
            row.append((piece, tone))
            left -= took
    if left:
        row.append((" " * left, "plain"))
    return tuple(row)


def selected(row: Row) -> Row:
    """The same row as the one that the keys are about."""
    return tuple((piece, "selected") for piece, _ in row)


def boxed(
    title: Sequence[Piece],
    rows: Sequence[Row],
    width: int,
    height: int,
    look: Look,
    *,
    focused: bool = False,
) -> list[Row]:
    """A frame of `height` rows with a title in its edge around rows of `width - 4` cells."""
    top_left, top_right, low_left, low_right, flat, side = [*(look.focus if focused else look.box)]
    edge: Tone = "cyan" if focused else "faint"
    taken = sum(text.cells(piece) for piece, _ in title)
    heading = exact(title, max(0, min(taken, width - 6)), look)
    line = flat * max(0, width - 5 - min(taken, max(0, width - 6)))
    blank: Row = ((" " * max(0, width - 4), "plain"),)
    body = [*rows[: max(0, height - 2)]]
    body += [blank] * (height - 2 - len(body))
    found = [
        exact([(f"{top_left}{flat} ", edge), *heading, (f" {line}{top_right}", edge)], width, look),
        *(exact([(f"{side} ", edge), *row, (f" {side}", edge)], width, look) for row in body),
        exact([(low_left + flat * max(0, width - 2) + low_right, edge)], width, look),
    ]
    return found[:height]


def wrapped(value: str, width: int, look: Look, rows_max: int) -> list[str]:
    """The text broken into rows of `width` cells, at most so many."""
    if width <= 0:
        return []
    left, rows = safe(value[: width * rows_max * CHARS_A_CELL], look), list[str]()
    while left and len(rows) < rows_max:
        taken = _chars_in(left, width)
        rows.append(left[:taken] + " " * max(0, width - text.cells(left[:taken])))
        left = left[taken:]
    return rows


def _chars_in(value: str, width: int) -> int:
    """How many characters go into so many cells; one at least."""
    room = width
    for place, char in enumerate(value):
        room -= text.cells(char)
        if room < 0:
            return max(1, place)
    return len(value)


def spark(history: Sequence[float], whole: int, width: int, look: Look) -> str:
    """The last `whole` values, newest last, as bars of which the highest is full.

    Blank where there was no value yet.
    """
    if width <= 0:
        return ""
    known = history[-whole:]
    gap = whole - len(known)
    edges = [number * whole // width for number in range(width + 1)]
    parts = [
        known[max(0, low - gap) : max(0, max(high, low + 1) - gap)] for low, high in pairwise(edges)
    ]
    means = [sum(part) / len(part) if part else None for part in parts]
    most, top = max((each for each in means if each is not None), default=0), len(look.spark) - 1
    return "".join(
        " " if each is None else look.spark[round(each / most * top) if most else 0]
        for each in means
    )


def rate(value: float | None) -> str:
    """`0.4`, `71`; `-` when unknown."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"  # noqa: PLR2004


def ms(value: float | None) -> str:
    """`0.8ms`, `21ms`, `1.2s`; `-` when unknown."""
    if value is None:
        return "-"
    if value >= 1000:  # noqa: PLR2004  (a second)
        return f"{value / 1000:.1f}s"
    return f"{value:.0f}ms" if value >= 10 else f"{value:.1f}ms"  # noqa: PLR2004


def percent(value: float | None) -> str:
    """`0.0`, `12`; `-` when unknown."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"  # noqa: PLR2004


def size(value: float | None) -> str:
    """`310K`, `55M`, `1.2G`; `-` when unknown."""
    if value is None:
        return "-"
    if value < 2**20:
        return f"{value / 2**10:.0f}K"
    return f"{value / 2**30:.1f}G" if value >= 1000 * 2**20 else f"{value / 2**20:.0f}M"


def clock_time(at_ms: int | None) -> str:
    """`14:22:07.114`, UTC."""
    if at_ms is None:
        return "-" * 12
    seconds, millis = divmod(at_ms, 1000)
    seconds %= 86400
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{millis:03d}"
