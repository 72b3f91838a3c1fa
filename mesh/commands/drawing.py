"""Boxes and lines in cells of text: a layered picture of who stands on whom; pure.

Layers by longest path, then the order within each by the mean place of neighbours (Sugiyama,
Tagawa, Toda 1981). Lines to one box join on one track and never run along another's.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesh.commands.output import Part, Style

GAP = 4
SWEEPS = 8
"""Rounds of moving boxes towards their neighbours; the picture is at rest long before."""

TRACKS_TRIED_MAX = 6
"""Orders of so many tracks are all tried (720) for the one with the fewest crossings."""

UP, RIGHT, DOWN, LEFT = 1, 2, 4, 8
LINES = " ╵╶└╷│┌├╴┘─┴┐┤┬┼"
"""By the sum of the directions that leave a cell."""

ASCII = str.maketrans("╵╶└╷│┌├╴┘─┴┐┤┬┼▼▶●◐◌✗○■┄", "|-+||++-+-+++++v>*~.xo#-")


class Box(NamedTuple):
    """What stands in the picture: lines of text, all in one style."""

    lines: tuple[str, ...]
    style: Style | None = None

    @property
    def width(self) -> int:
        """With its frame."""
        return max(map(len, self.lines)) + 4


class _Spot(NamedTuple):
    """A box in its layer; a line on its way to a box below has no box of its own."""

    target: str
    layer: int


def picture(
    boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]], width: int
) -> list[list[Part]] | None:
    """Lines of the picture; None if it is wider than `width`. Edges of a cycle may be left out."""
    boxes = {name: _with_room(name, box, edges) for name, box in boxes.items()}
    layers = _layers(boxes, edges)
    rows, links = _rows(boxes, edges, layers)
    places = _places(rows, links, boxes)
    total = max(places[spot] + _width(spot, layers, boxes) // 2 + 1 for row in rows for spot in row)
    if total > width:
        return None
    canvas = _Canvas()
    y = 0
    for row in rows:
        height = max(len(boxes[spot.target].lines) + 2 for spot in row if _is_box(spot, layers))
        for spot in row:
            if _is_box(spot, layers):
                canvas.box(places[spot] - boxes[spot.target].width // 2, y, boxes[spot.target])
            else:
                canvas.down(places[spot], y, y + height - 1)
        y += height
        y += _channel(canvas, [link for link in links if link[0] in row], places, boxes, layers, y)
    return canvas.lines()


def _with_room(name: str, box: Box, edges: Sequence[tuple[str, str]]) -> Box:
    """Wide enough for every line that leaves it, with room beside each."""
    wide = 2 * sum(source == name for source, _ in edges) - 1
    return Box((box.lines[0].ljust(wide), *box.lines[1:]), box.style)


def _layers(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way from a box that nobody stands on; a cycle is cut where it closes."""
    below = defaultdict(list)
    for source, target in edges:
        below[source].append(target)
    found: dict[str, int] = {}

    def visit(name: str, depth: int, path: tuple[str, ...]) -> None:
        if name in path or found.get(name, -1) >= depth:
            return
        found[name] = depth
        for other in below[name]:
            visit(other, depth + 1, (*path, name))

    for name in sorted(boxes, key=lambda each: sum(target == each for _, target in edges)):
        if name not in found:
            visit(name, 0, ())
    return found


_Link = tuple[_Spot, _Spot]


def _is_box(spot: _Spot, layers: Mapping[str, int]) -> bool:
    return layers[spot.target] == spot.layer


def _width(spot: _Spot, layers: Mapping[str, int], boxes: Mapping[str, Box]) -> int:
    return boxes[spot.target].width if _is_box(spot, layers) else 1


def _rows(
    boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]], layers: Mapping[str, int]
) -> tuple[list[list[_Spot]], list[_Link]]:
    """Spots by layer in a good order, and the links from each layer to the next."""
    rows: list[list[_Spot]] = [[] for _ in range(max(layers.values()) + 1)]
    for name in boxes:
        rows[layers[name]].append(_Spot(name, layers[name]))
    links: list[_Link] = []
    for source, target in edges:
        for layer in range(layers[source], layers[target]):
            upper = _Spot(source if layer == layers[source] else target, layer)
            lower = _Spot(target, layer + 1)
            if (upper, lower) not in links:
                links.append((upper, lower))
            if lower not in rows[layer + 1]:
                rows[layer + 1].append(lower)
    for sweep in range(SWEEPS):
        for n in range(len(rows)) if sweep % 2 else range(len(rows) - 1, -1, -1):
            near = rows[n - 1] if sweep % 2 and n else rows[min(n + 1, len(rows) - 1)]
            index = {spot: place for place, spot in enumerate(near)}
            means = {spot: _mean(spot, links, index, own) for own, spot in enumerate(rows[n])}
            rows[n].sort(key=means.__getitem__)
    return rows, links


def _mean(spot: _Spot, links: list[_Link], place: Mapping[_Spot, int], own: float) -> float:
    near = [
        place[b if a == spot else a]
        for a, b in links
        if spot in {a, b} and (b if a == spot else a) in place
    ]
    return sum(near) / len(near) if near else own


def _places(
    rows: list[list[_Spot]], links: list[_Link], boxes: Mapping[str, Box]
) -> dict[_Spot, int]:
    """The middle column of each spot: near its neighbours, and clear of those beside it."""
    layers = {spot.target: spot.layer for row in rows for spot in row}
    wide = {spot: _width(spot, layers, boxes) for row in rows for spot in row}
    middle: dict[_Spot, int] = {}
    for row in rows:
        x = 0
        for spot in row:
            middle[spot] = x + wide[spot] // 2
            x += wide[spot] + GAP
    for _ in range(SWEEPS):
        for row in (*rows, *reversed(rows)):
            wanted = [round(_mean(spot, links, middle, middle[spot])) for spot in row]
            _spread(row, wanted, wide, middle)
    left = min(middle[spot] - wide[spot] // 2 for spot in middle)
    return {spot: x - left for spot, x in middle.items()}


def _spread(
    row: list[_Spot], wanted: list[int], wide: Mapping[_Spot, int], middle: dict[_Spot, int]
) -> None:
    """Each as near as can be to where it wants to be, in this order and with gaps."""
    for n, (spot, x) in enumerate(zip(row, wanted, strict=True)):
        if n:
            before = row[n - 1]
            clear = middle[before] + (wide[before] + 1) // 2 + GAP + wide[spot] // 2
            middle[spot] = max(x, clear)
        else:
            middle[spot] = x
    shift = round(sum(x - middle[spot] for spot, x in zip(row, wanted, strict=True)) / len(row))
    for spot in row:
        middle[spot] += shift


def _channel(
    canvas: _Canvas,
    links: list[_Link],
    places: Mapping[_Spot, int],
    boxes: Mapping[str, Box],
    layers: Mapping[str, int],
    y: int,
) -> int:
    """Draw the lines between two rows of boxes from row `y` on; the rows that took."""
    if not links:
        return 0
    ports = _ports(links, places, boxes, layers)
    targets = list(dict.fromkeys(lower for _, lower in links))
    bent = [
        each
        for each in targets
        if any(lower == each and ports[upper, lower] != places[lower] for upper, lower in links)
    ]
    order = _tracks(bent, links, ports, places)
    height = len(order) + 1
    for upper, lower in links:
        x, end = ports[upper, lower], places[lower]
        track = order.index(lower) if lower in order else height - 1
        canvas.down(x, y - 1, y + track)
        canvas.across(x, end, y + track)
        there = _is_box(lower, layers)
        canvas.down(end, y + track, y + height - there)
        if there:
            canvas.head(end, y + height - 1)
    return height


def _ports(
    links: list[_Link],
    places: Mapping[_Spot, int],
    boxes: Mapping[str, Box],
    layers: Mapping[str, int],
) -> dict[_Link, int]:
    """The column in which each line leaves; never that of a line to another box."""
    found: dict[_Link, int] = {}
    for upper in dict.fromkeys(upper for upper, _ in links):
        own = sorted((link for link in links if link[0] == upper), key=lambda link: places[link[1]])
        half = _width(upper, layers, boxes) // 2
        inside = range(places[upper] - half + 1, places[upper] + half) or [places[upper]]
        for n, link in enumerate(own):
            others = {places[lower] for _, lower in links if lower != link[1]}
            free = [x for x in inside if x not in {*others, *found.values()}] or inside
            wanted = inside[len(inside) * (2 * n + 1) // (2 * len(own))]
            found[link] = min(free, key=lambda x: abs(x - wanted))
    return found


def _tracks(
    targets: list[_Spot],
    links: list[_Link],
    ports: Mapping[_Link, int],
    places: Mapping[_Spot, int],
) -> list[_Spot]:
    """The boxes below in the order of their tracks, from the top, with the fewest crossings."""

    def crossings(order: tuple[_Spot, ...]) -> int:
        count = 0
        for n, lower in enumerate(order):
            ends = [places[lower], *(ports[link] for link in links if link[1] == lower)]
            for other in order[n + 1 :]:  # its lines pass this track from above
                count += sum(
                    min(ends) <= ports[link] <= max(ends) for link in links if link[1] == other
                )
            for other in order[:n]:  # its way down passes this track
                count += min(ends) <= places[other] <= max(ends)
        return count

    if len(targets) > TRACKS_TRIED_MAX:
        return sorted(targets, key=lambda lower: places[lower])
    orders: list[tuple[_Spot, ...]] = [*permutations(targets)]
    return [*min(orders, key=crossings)]


class _Canvas:
    """Cells: lines as the directions that leave them, text over them."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, int], int] = defaultdict(int)
        self._text: dict[tuple[int, int], tuple[str, Style | None]] = {}

    def down(self, x: int, top: int, bottom: int) -> None:
        for y in range(top, bottom + 1):
            self._lines[x, y] |= (UP if y > top else 0) | (DOWN if y < bottom else 0)

    def across(self, x: int, end: int, y: int) -> None:
        left, right = sorted((x, end))
        for at in range(left, right + 1):
            self._lines[at, y] |= (LEFT if at > left else 0) | (RIGHT if at < right else 0)

    def head(self, x: int, y: int) -> None:
        self._text[x, y] = ("▼", None)

    def box(self, x: int, y: int, box: Box) -> None:
        right, bottom = x + box.width - 1, y + len(box.lines) + 1
        for side in (y, bottom):
            self.across(x, right, side)
        for side in (x, right):
            self.down(side, y, bottom)
        for n, line in enumerate(box.lines):
            for place, char in enumerate(f" {line} ".ljust(box.width - 2)):
                self._text[x + 1 + place, y + 1 + n] = (char, box.style)

    def lines(self) -> list[list[Part]]:
        """Rows of text, runs of one style together, without blanks at their ends."""
        cells = {*self._lines, *self._text}
        found: list[list[Part]] = []
        for y in range(max(y for _, y in cells) + 1):
            row: list[tuple[str, Style | None]] = []
            for x in range(max((x for x, own in cells if own == y), default=-1) + 1):
                char, style = self._text.get((x, y), (LINES[self._lines.get((x, y), 0)], None))
                if row and row[-1][1] == style:
                    row[-1] = (row[-1][0] + char, style)
                else:
                    row.append((char, style))
            found.append([(text, style) if style else text for text, style in row])
        return found
