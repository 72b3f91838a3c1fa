"""`mesh graph`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from mesh.commands import output
from mesh.commands.drawing import ASCII, Box, picture
from mesh.commands.project import Project, check_names
from mesh.commands.ps import STYLES
from mesh.commands.verb import json_option, verb
from mesh.configs.check import BUS
from mesh.errors import NotRunning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesh.commands.output import Part
    from mesh.commands.topology import Asks, Topology
    from mesh.framework import Move, Moves

GLYPHS = {
    "ready": "●",
    "degraded": "◐",
    "starting": "◌",
    "backoff": "◌",
    "stopping": "◌",
    "failed": "✗",
}
STOPPED = "○"

COLUMNS_MIN = 40
"""Narrower than any picture; everything is listed below it anyhow."""

ASKS, TELLS = "──▶", "┄┄▶"

Row = dict[str, object]


def _rows(project: Project) -> dict[str, Row]:
    """What `mesh ps` shows, by name; nothing of a mesh that does not run."""
    try:
        return {str(row["name"]): {**row} for row in project.remote().status()["services"]}
    except NotRunning:
        return {}


def _box(name: str, row: Mapping[str, object]) -> Box:
    state = str(row.get("state") or "stopped")
    port = f" :{row['port']}" if row.get("port") and state != "stopped" else ""
    lines = (f"{GLYPHS.get(state, STOPPED)} {name}", f"{state}{port}")
    return Box(lines, STYLES.get(state, "faint"))


def _told(box: Box) -> Part:
    """A box in one line."""
    text = "  ".join(box.lines)
    return (text, box.style) if box.style else text


def _show(lines: Sequence[Sequence[Part]], *, ascii_only: bool) -> None:
    for line in lines:
        if not ascii_only:
            output.out(*line)
            continue
        output.out(
            *(
                (_ascii(part[0]), part[1]) if isinstance(part, tuple) else _ascii(part)
                for part in line
            )
        )


def _ascii(text: str) -> str:
    return text.translate(ASCII)


def _drawn(found: Topology, rows: Mapping[str, Row]) -> list[list[Part]]:
    """The picture where it fits, then who asks and who tells what."""
    boxes = {name: _box(name, rows.get(name, {})) for name in found.services}
    columns = max(COLUMNS_MIN, shutil.get_terminal_size().columns)
    edges = [(row.source, row.target) for row in found.asks]
    lines = picture(boxes, edges, columns) if boxes else None
    if lines is None:  # too wide: the services one below the other
        lines = [[_told(box)] for box in boxes.values()]
    return [*lines, *_asks(found.asks, columns), *_tells(found, rows.get(BUS, {}), columns)]


def _asks(asks: Sequence[Asks], columns: int) -> list[list[Part]]:
    if not asks:
        return []
    left, right = (max(len(getattr(row, end)) for row in asks) for end in ("source", "target"))
    lines: list[list[Part]] = [[], [("who asks whom", "strong")]]
    for row in asks:
        head = f"  {row.source:<{left}} {ASKS} {row.target:<{right}}  "
        lines += _wrapped(head, row.operations or ("(a program of its own)",), columns)
    return lines


def _tells(found: Topology, bus: Row, columns: int) -> list[list[Part]]:
    if not found.tells:
        return []
    title: list[Part] = [("who tells whom", "strong"), "  over  ", _told(_box(BUS, bus))]
    width = max(len(row.event) for row in found.tells)
    lines: list[list[Part]] = [[], title]
    for row in found.tells:
        lines += _wrapped(
            f"  {row.event:<{width}} {TELLS} ", row.heard_by or ("nobody here",), columns
        )
    return lines


def _wrapped(head: str, words: Sequence[str], columns: int) -> list[list[Part]]:
    """The words after the head, broken below their own beginning."""
    lines, line = [], head
    for n, word in enumerate(words):
        text = word + (", " if n + 1 < len(words) else "")
        if len(line) > len(head) and len(line) + len(text.rstrip()) > columns:
            lines.append(line)
            line = " " * len(head)
        line += text
    first, *more = [each[len(head) :].rstrip() for each in (*lines, line)]
    found: list[list[Part]] = [[head, (first, "faint")]]
    found += [[" " * len(head), (each, "faint")] for each in more]
    return found


def _mermaid(found: Topology) -> str:
    asks = [
        f"  {row.source} -->|{'<br>'.join(row.operations)}| {row.target}"
        if row.operations
        else f"  {row.source} --> {row.target}"
        for row in found.asks
    ]
    tells = [
        f"  {row.source} -.->|{row.event}| {name}" for row in found.tells for name in row.heard_by
    ]
    return "\n".join(["flowchart TD", *(f"  {name}" for name in found.services), *asks, *tells])


def _plain(found: Topology, rows: Mapping[str, Row], project: str) -> Row:
    return {
        "schema": "mesh.graph/1",
        "project": project,
        "services": [
            {"name": name, "state": rows.get(name, {}).get("state", "stopped")}
            for name in found.services
        ],
        "asks": [
            {"from": row.source, "to": row.target, "operations": list(row.operations)}
            for row in found.asks
        ],
        "tells": [
            {"event": row.event, "from": row.source, "to": list(row.heard_by)}
            for row in found.tells
        ],
    }


def _moves_drawn(moves: Moves) -> list[list[Part]]:
    """Each state with the ways out of it: what causes the move, who may ask, what it leaves."""
    cause = max(len(row.cause) for row in moves.rows)
    target = max(map(len, moves.states)) + 2
    count = f"{len(moves.states)} states, {len(moves.rows)} moves   ▶ begins   ■ ends"
    lines: list[list[Part]] = [[(moves.entity, "strong"), f"   {count}"]]
    for state in moves.states:
        ways = moves.out_of(state)
        if not ways:
            continue
        lines += [[], ["▶ " if state in moves.initial else "  ", (state, "strong")]]
        for row in ways:
            end = row.target + (" ■" if row.target in moves.terminal else "")
            about = _about(row)
            text = f"    {row.cause} {'─' * (cause - len(row.cause))}──▶ "
            lines.append([text, (f"{end:<{target}}" if about else end, "cyan"), (about, "faint")])
    return [*lines, [], ["■ ", (", ".join(moves.terminal), "strong")]]


def _about(row: Move) -> str:
    parts = [f"by {', '.join(row.by)}"] if row.by else []
    parts += [f"later: {', '.join(row.defers)}"] if row.defers else []
    return f"  {'; '.join(parts)}" if parts else ""


def _moves_mermaid(moves: Moves) -> str:
    lines = [f"  {row.source or '[*]'} --> {row.target} : {row.cause}" for row in moves.rows] + [
        f"  {state} --> [*]" for state in moves.terminal
    ]
    return "\n".join(["stateDiagram-v2", *lines])


def _moves_plain(service: str, moves: Moves) -> Row:
    return {
        "schema": "mesh.moves/1",
        "service": service,
        "entity": moves.entity,
        "states": [
            {"name": name, "initial": name in moves.initial, "terminal": name in moves.terminal}
            for name in moves.states
        ],
        "moves": [
            {
                "from": row.source or None,
                "cause": row.cause,
                "to": row.target,
                "by": list(row.by),
                "defers": list(row.defers),
            }
            for row in moves.rows
        ],
    }


@verb(
    "mesh graph",
    "mesh graph --moves order",
    "mesh graph --format mermaid > topology.mmd",
    "mesh graph --json",
)
@click.option("--moves", "entity", metavar="ENTITY", help="Draw an entity's states and moves.")
@click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "mermaid", "json"]),
    default="text",
    help="How to print it.",
)
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII alone.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, *, entity: str | None, shape: str, ascii_only: bool, as_json: bool
) -> None:
    """Draw who asks whom and who tells whom, with the state of what runs.

    Made from the services' tables, so nothing needs to run.
    """
    from mesh.commands import topology  # noqa: PLC0415  (imports what services stand on)

    project = Project.of(ctx)
    ascii_only = ascii_only or not output.unicode_able()
    shape = "json" if as_json else shape
    if entity is not None:
        every = topology.moves(project)
        check_names([entity], list(every), what="entity")
        service, moves = every[entity]
        if shape == "json":
            output.json_line(_moves_plain(service, moves))
        elif shape == "mermaid":
            output.block(_moves_mermaid(moves))
        else:
            _show(_moves_drawn(moves), ascii_only=ascii_only)
        return
    found, rows = topology.topology(project), _rows(project)
    if shape == "json":
        output.json_line(_plain(found, rows, project.config.name))
    elif shape == "mermaid":
        output.block(_mermaid(found))
    else:
        _show(_drawn(found, rows), ascii_only=ascii_only)
