"""`mesh events`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import click

from mesh import bus, clock
from mesh.commands import http, lag, output, parked
from mesh.commands.cloudevents import Wanted, cloud_event
from mesh.commands.connection import READER, client_url, reader_token, stopped
from mesh.commands.data import given
from mesh.commands.lines import parse_moment
from mesh.commands.operations import members
from mesh.commands.project import Project, check_names
from mesh.commands.verb import Number, VerbGroup, Whole, json_option, verb
from mesh.configs.check import BUS
from mesh.errors import (
    BusUnavailable,
    DeadlineExceeded,
    ServiceUnavailable,
    WrongUsage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mesh.buses.contract import Arrived, Bus, Event

LAST = 10
"""Events shown before following, unless -n or --since says otherwise."""

WINDOW = 1000
"""Events looked through, from the end, for the last that a filter lets through; then ten times
as many, and so on: the last ten of a busy type are found without reading the whole log."""

BAD_REQUEST = 400

PUBLISH_S = 5.0
"""For the bus to store one event: a commit, and a restart of the bus meanwhile."""

DATA_CHARS_MAX = 160
"""Of an event's data, as a person sees it."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What to show: the `last` so many (None: all that are wanted), then what follows."""

    wanted: Wanted
    last: int | None
    follow: bool
    count: int | None
    timeout_s: float | None


def short(event: Event) -> str:
    """An event's data on one line, cut."""
    text = event.body.decode("utf-8", "replace")
    return text if len(text) <= DATA_CHARS_MAX else text[: DATA_CHARS_MAX - 1] + "…"


def _show(event: Event, *, as_json: bool) -> None:
    if as_json:
        output.json_line(cloud_event(event))
        return
    output.out(
        (clock.iso(event.ts_ms)[11:23], "faint"),
        f" {event.stream}#{event.seq} ",
        (event.type, "cyan"),
        f" {event.key} ",
        (short(event), "faint"),
    )


async def _last_wanted(wire: Bus, tail: Tail, last: int) -> tuple[list[Event], int]:
    """The last events that a filter lets through, and the arrival number of the log's end."""
    window = WINDOW
    while True:
        kept: deque[Event] = deque(maxlen=last)
        seen, end = 0, 0
        async for batch in wire.arrivals(-window, follow=False):
            for arrived in batch:
                seen, end = seen + 1, arrived.arrival
                if tail.wanted.takes(arrived.event):
                    kept.append(arrived.event)
        if len(kept) == last or seen < window:
            return list(kept), end
        window *= 10


async def _before(wire: Bus, since_ms: int) -> int:
    """An arrival number beyond which everything since that time lies; little else does."""
    window, before = WINDOW, 0
    while True:
        first = await _first(wire, window)
        if first is None or first.arrival == before:  # as far back as the log goes
            return 0
        if first.event.ts_ms < since_ms:
            return first.arrival
        window, before = window * 10, first.arrival


async def _first(wire: Bus, window: int) -> Arrived | None:
    """The first of the last `window` events."""
    async with contextlib.aclosing(wire.arrivals(-window, follow=False)) as batches:
        async for batch in batches:
            return batch[0]
    return None


async def _chosen(wire: Bus, tail: Tail) -> AsyncIterator[Event]:
    """Every event to show, in the bus's order of arrival."""
    after = 0
    if tail.last is None:
        after = await _before(wire, tail.wanted.since_ms or 0)
    elif tail.wanted.filters:
        found, after = await _last_wanted(wire, tail, tail.last)
        for event in found:
            yield event
        if not tail.follow:
            return
    elif tail.last == 0:
        if not tail.follow:
            return
        after = await _end(wire)
    else:
        after = -tail.last
    async for batch in wire.arrivals(after, follow=tail.follow):
        for arrived in batch:
            if tail.wanted.takes(arrived.event):
                yield arrived.event


async def _end(wire: Bus) -> int:
    """The number of the last arrival so far; 0 in an empty log."""
    last: list[Arrived] = []
    async for batch in wire.arrivals(-1, follow=False):
        last = batch
    return last[-1].arrival if last else 0


async def _run(
    url: str, token: Callable[[], str], tail: Tail, show: Callable[[Event], None]
) -> None:
    """Show events until there are no more, `count` are shown, or time is up."""
    wire = bus.connect(url, name=READER, token=token)
    shown = 0
    try:
        await wire.start()
        async with asyncio.timeout(tail.timeout_s):
            async for event in _chosen(wire, tail):
                show(event)
                shown += 1
                if shown == tail.count:
                    return
    except TimeoutError:
        if tail.count is not None:
            raise DeadlineExceeded(
                f"{shown} of {tail.count} events within {tail.timeout_s:g} s"
            ) from None
    except BusUnavailable:
        raise stopped() from None
    finally:
        await wire.close()


def _where(given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in given]
    for name, sign, _ in pairs:
        if not sign or not name:
            raise WrongUsage(f"`{name}` is no FIELD=VALUE", hint="for example: --where sku=TEA-1")
    return tuple((name, value) for name, _, value in pairs)


@click.group("events", cls=VerbGroup)
def command() -> None:
    """Read the events the services tell, and tell your own."""


@verb(
    "mesh events tail",
    "mesh events tail --no-follow --json -n 50",
    "mesh events tail --type 'product.*' --where sku=TEA-1 --count 1 --timeout 5",
    name="tail",
)
@click.option("-n", "--last", type=Whole(min=0), metavar="N", help="Begin N back (10).")
@click.option("--no-follow", is_flag=True, help="End with the newest event there is now.")
@click.option("--count", type=Whole(min=1), metavar="K", help="End after K events.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(0.001),
    metavar="S",
    help="End after S seconds; exit code 4 if --count was not reached.",
)
@click.option("--since", metavar="T", help="Begin there: 10m, or an RFC 3339 time.")
@click.option("--type", "type_glob", metavar="GLOB", help="Only types like product.*")
@click.option("--stream", metavar="SVC", help="Only events of this service.")
@click.option("--where", multiple=True, metavar="F=V", help="Only where this member is so.")
@json_option
@click.pass_context
def _tail(
    ctx: click.Context,
    *,
    last: int | None,
    no_follow: bool,
    count: int | None,
    timeout_s: float | None,
    since: str | None,
    type_glob: str | None,
    stream: str | None,
    where: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the last events, then follow, in the bus's order of arrival: causes first."""
    project = Project.of(ctx)
    if stream is not None:
        check_names([stream], [*project.config.services, READER])
    since_ms = None if since is None else parse_moment(since, clock.now_ms())
    wanted = Wanted(type_glob, stream, since_ms, _where(where))
    if last is None and since is None:
        last = LAST
    tail = Tail(wanted, last, not no_follow, count, timeout_s)
    url, token = client_url(project), reader_token(project)
    asyncio.run(_run(url, token, tail, lambda event: _show(event, as_json=as_json)))


def _published(project: Project, kind: str, subject: str, data: object) -> dict[str, object]:
    """Have the bus store an event durably; the CloudEvent that it became."""
    running = project.running()
    if not project.config.bus or BUS not in running.urls:
        raise WrongUsage("this mesh has no bus of its own", hint="add `bus: zmq://`")
    answer = http.ask(
        running.urls[BUS],
        "POST",
        f"/events/{quote(kind, safe='')}?{urlencode({'subject': subject})}",
        body=data,
        headers={"Authorization": f"Bearer {project.remote().token('operator', BUS)}"},
        timeout_s=PUBLISH_S,
    )
    said = members(answer.body)
    if answer.status in {200, 201}:
        return said
    shape = WrongUsage if answer.status == BAD_REQUEST else ServiceUnavailable
    hint = said.get("hint")
    raise shape(
        f"{kind}: {said.get('detail') or f'status {answer.status}'}",
        code=str(said.get("code", "refused")),
        hint=hint if isinstance(hint, str) else None,
    )


@verb(
    """mesh events publish demo.greeted -d '{"name": "Ada"}'""",
    "mesh events publish demo.greeted -d @event.json --subject ada --json",
    name="publish",
)
@click.argument("kind", metavar="TYPE")
@click.option("-d", "--data", required=True, metavar="JSON|@FILE", help="What it tells.")
@click.option("--subject", default="", metavar="S", help="The id of what it is about.")
@json_option
@click.pass_context
def _publish(ctx: click.Context, *, kind: str, data: str, subject: str, as_json: bool) -> None:
    """Tell an event of your own, on the stream `cli`; done once it is on the disk."""
    value = given(data)
    if value is None:
        raise WrongUsage("an event tells something: null is not enough")
    try:
        said = _published(Project.of(ctx), kind, subject, value)
    except http.ConnectionRefused:
        raise stopped() from None
    if as_json:
        output.json_line(said)
    else:
        output.note(f"told {said['stream']}#{said['sequence']} {said['type']} as {said['id']}")


for _command in (_tail, _publish, lag.command, parked.command, parked.diverged):
    command.add_command(_command)
