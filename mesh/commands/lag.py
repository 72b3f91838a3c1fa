"""`mesh events lag`: how far every consumer is behind every stream.

The bus knows every stream's head and where consumers last said they were; a service that answers
knows better where it is, and what it has parked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from mesh import bus
from mesh.commands import output
from mesh.commands.connection import READER, client_url, reader_token, stopped
from mesh.commands.operations import items, members
from mesh.commands.operator import OK, READING_S, Operator
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb
from mesh.errors import BusUnavailable, DeadlineExceeded, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mesh.bus import StreamHead
    from mesh.commands.output import Part, Style

HEADS_S = 5.0
"""For the bus to answer; it takes a millisecond."""

Row = dict[str, object]

STYLES: dict[object, Style] = {
    "live": "good",
    "catching up": "warn",
    "retrying": "warn",
    "away": "warn",
    "halted": "bad",
}


def lag_of(heads: Sequence[StreamHead], told: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Every stream with its consumers, by name; pure.

    Args:
        told: for each service that answers, its cursors as `/counters` has them.
    """
    return [
        {
            "stream": each.stream,
            "epoch": each.epoch,
            "head": each.head.seq,
            "consumers": _consumers(each, told),
        }
        for each in sorted(heads, key=lambda each: each.stream)
    ]


def _consumers(head: StreamHead, told: Mapping[str, Sequence[Row]]) -> list[Row]:
    reported = {each.name: each.cursor.seq for each in head.followers}
    own = {
        name: row for name, rows in told.items() for row in rows if row.get("stream") == head.stream
    }
    found: list[Row] = []
    for name in sorted({*reported, *own}):
        row = own.get(name, {})
        said = row.get("seq")
        seq = said if isinstance(said, int) else reported.get(name, 0)
        lag = max(0, head.head.seq - seq)
        state = str(row.get("state", "live")) if name in own else "away"
        if state == "live" and lag:
            state = "catching up"
        found.append(
            {
                "name": name,
                "sequence": seq,
                "lag": lag,
                "parked": row.get("parked"),
                "state": state,
            }
        )
    return found


def _told(project: Project) -> dict[str, list[Row]]:
    """The cursors of every service that answers."""
    operator = Operator(project)
    found: dict[str, list[Row]] = {}
    for name, url in operator.services.items():
        try:
            answer = operator.ask(name, url, "GET", "/counters", READING_S)
        except (ServiceUnavailable, DeadlineExceeded):
            continue
        if answer.status == OK:
            rows = items(members(answer.body).get("cursors"))
            found[name] = [dict(members(row)) for row in rows]
    return found


async def _heads(url: str, token: Callable[[], str]) -> list[StreamHead]:
    wire = bus.connect(url, name=READER, token=token)
    try:
        await wire.start()
        return await wire.heads(timeout_s=HEADS_S)
    except BusUnavailable:
        raise stopped() from None
    finally:
        await wire.close()


@verb("mesh events lag", "mesh events lag --json", name="lag")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Show how far each consumer is behind each stream, and what it has parked."""
    project = Project.of(ctx)
    heads = asyncio.run(_heads(client_url(project), reader_token(project)))
    streams = lag_of(heads, _told(project))
    if as_json:
        output.json_line({"schema": "mesh.lag/1", "streams": streams})
        return
    table: list[list[Part]] = []
    for stream in streams:
        consumers = [members(row) for row in items(stream["consumers"])]
        for row in consumers or [{}]:
            lag, parked, state = row.get("lag"), row.get("parked"), row.get("state")
            table.append(
                [
                    str(stream["stream"]),
                    str(stream["head"]),
                    str(row.get("name", "-")),
                    _figure(row.get("sequence")),
                    (_figure(lag), "warn" if lag else "good"),
                    (_figure(parked), "bad" if parked else "faint"),
                    (_figure(state), STYLES.get(state, "faint")),
                ]
            )
    if not table:
        output.note("nothing has been told yet")
        return
    output.table(["STREAM", "HEAD", "CONSUMER", "AT", "LAG", "PARKED", "STATE"], table)


def _figure(value: object) -> str:
    return "-" if value is None else str(value)
