"""`mesh dash`: the dashboard, attached to the mesh that runs here."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

import click

from mesh import bus, clock
from mesh.commands import chaos, explain, lines, logs, output
from mesh.commands.befell import befell
from mesh.commands.connection import READER, client_url, reader_token
from mesh.commands.operations import items, members
from mesh.commands.operator import OK, READING_S, Operator
from mesh.commands.project import Project
from mesh.commands.verb import verb
from mesh.dashboard import run, terminal
from mesh.dashboard.frame import Details, LogLine
from mesh.dashboard.source import Source
from mesh.dashboard.ui import Ui
from mesh.dashboard.view import view
from mesh.errors import DeadlineExceeded, NotFound, NotRunning, ServiceUnavailable
from mesh.tracing.stories import Stories
from mesh.tracing.tail import Tail
from mesh.tracing.waterfall import waterfall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mesh.bus import Bus
    from mesh.commands.output import Part
    from mesh.dashboard.frame import Frame
    from mesh.dashboard.keys import Act, Break
    from mesh.dashboard.picture import Picture
    from mesh.orchestrator.reader import Line
    from mesh.tracing.stories import Summary
    from mesh.tracing.waterfall import Waterfall

ONCE_SIZE = (120, 36)
"""Of a picture that is not for a terminal; COLUMNS and LINES say otherwise."""

TEXT_CHARS_MAX = 4000
"""Of a log line: more than a screen of it is read with `mesh logs`."""

STORIES_MAX, SPANS_MAX = 300, 6_000
SPANS_BYTES = 64 * 1024
"""Traces kept at hand, and how much of each file of spans is read for them at the start."""

HUNG_UP = 128 + signal.SIGHUP
"""As if it had died of the signal that a closed terminal sends."""


def log_line(number: int, line: Line) -> LogLine:
    """A line of a log, as the dashboard shows it."""
    parsed = lines.parse(*line)
    trace_id = parsed.facts.get("trace_id")
    exception = parsed.facts.get("exception")
    facts = lines.facts_text(parsed)
    if isinstance(exception, str) and exception:
        facts = f"{facts} {exception.strip().splitlines()[-1]}"
    return LogLine(
        number,
        parsed.at_ms,
        parsed.service,
        parsed.level,
        parsed.message[:TEXT_CHARS_MAX],
        facts[:TEXT_CHARS_MAX],
        trace_id if isinstance(trace_id, str) else "",
    )


class _Mesh:
    """The mesh of one project, in the dashboard's words."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._reading = threading.Lock()
        self._stories = Stories(stories_max=STORIES_MAX, spans_max=SPANS_MAX)
        self._tail = Tail(project.data, last_bytes=SPANS_BYTES)

    def bus(self) -> Bus:
        url = client_url(self._project)
        return bus.connect(url, name=READER, token=reader_token(self._project))

    def parked(self) -> frozenset[tuple[str, str, int]]:
        operator = Operator(self._project)
        found: set[tuple[str, str, int]] = set()
        for name, url in operator.services.items():
            try:
                answer = operator.ask(name, url, "GET", "/parked", READING_S)
            except (ServiceUnavailable, DeadlineExceeded):
                continue
            rows = items(members(answer.body).get("parked")) if answer.status == OK else []
            for row in map(members, rows):
                found.add((name, str(row.get("stream")), int(str(row.get("sequence")))))
        return frozenset(found)

    def explain(self, name: str) -> Details:
        told = dict(self._project.remote().explain(name))
        told["port_holders"] = explain.holders(told)
        facts = tuple((title, tuple(parts)) for title, parts in explain.facts(told))
        said = told.get("lines")
        parsed = [lines.parse(name, str(each), None) for each in items(said)]
        shown = [f"{each.level or '-'} {each.message} {lines.facts_text(each)}" for each in parsed]
        return Details(name, facts, tuple(shown))

    def traces(self) -> Sequence[Summary]:
        with self._reading:
            self._stories.take(self._tail.read())
            return self._stories.summaries()

    def trace(self, trace_id: str) -> Waterfall:
        """Also one that is older than what is looked at all the time. Raises: NotFound."""
        with self._reading:
            spans = self._stories.spans(trace_id)
        if not spans:
            every = Stories()
            every.take(Tail(self._project.data).everything())
            spans = every.spans(trace_id)
        if not spans:
            raise NotFound(f"nothing is recorded of {trace_id}", code="no-trace")
        return waterfall(spans, befell(self._project.logs))

    def act(self, act: Act) -> str:
        began_s = clock.monotonic_s()
        remote = self._project.remote()
        match act.what:
            case "restart":
                remote.restart([act.name])
            case "stop":
                remote.stop([act.name])
            case "start":
                remote.start([act.name])
            case "mend":
                count, later = chaos.mend(self._project, [act.name])
                return "; ".join([f"{act.name}: ended {count} faults", *later])
        done = {"restart": "restarted", "stop": "stopped", "start": "told to start"}[act.what]
        return f"{act.name} {done} in {clock.monotonic_s() - began_s:.1f} s"

    def down(self) -> str:
        self._project.remote().down()
        return "everything is stopped"

    def inflict(self, fault: Break) -> str:
        seed = clock.new_seed()
        asked = {"kind": fault.kind, "target": fault.name, "for_s": fault.for_s, "seed": seed}
        if fault.kind == "latency":
            asked["ms"] = chaos.DELAY_MS
        chaos.inflict(self._project, asked)
        until = f" for {fault.for_s:g} s" if fault.for_s else ""
        return f"{fault.kind} {fault.name}{until}   seed {seed}   mend it: c x"


def source(project: Project) -> Source:
    """What the dashboard of this project's mesh looks at. Raises: NotRunning."""
    remote, mesh = project.remote(), _Mesh(project)

    def changes() -> Iterator[object]:
        yield from remote.watch()

    names = [str(row["name"]) for row in remote.status()["services"]]
    return Source(
        status=remote.status,
        changes=changes,
        logs={name: project.logs / f"{name}.log" for name in names},
        log_line=log_line,
        bus=mesh.bus,
        parked=mesh.parked,
        explain=mesh.explain,
        traces=mesh.traces,
        trace=mesh.trace,
        act=mesh.act,
        inflict=mesh.inflict,
        down=mesh.down,
    )


def printed(picture: Picture) -> None:
    """A picture on stdout, as lines; the last row is for keys."""
    for row in picture.rows[:-1]:
        parts: list[Part] = [
            piece if tone in {"plain", "selected", "alarm"} else (piece, tone)  # type: ignore[misc]
            for piece, tone in row
        ]
        output.out(*parts)


def die_of(number: int) -> NoReturn:
    """End as the signal would have it, now that the terminal is as it was."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)


@verb("mesh dash", "mesh dash --read-only", "mesh dash --once")
@click.option("--once", is_flag=True, help="Print one picture and end.")
@click.option("--read-only", is_flag=True, help="Let no key change anything.")
@click.pass_context
def command(ctx: click.Context, *, once: bool, read_only: bool) -> int:
    """Watch everything on one screen: services, who asks and tells whom, events, traces, logs.

    Leaving it (q) stops nothing. Keys: ? lists them. Without a terminal, log lines instead.
    """
    project = Project.of(ctx)
    project.remote()
    if once:
        frame = asyncio.run(run.once(source(project)))
        ui = Ui(ascii=not terminal.unicode_able())
        printed(view(frame, ui, *shutil.get_terminal_size(ONCE_SIZE)))
        return 0
    if not output.drawable():
        output.note("no terminal to draw on: log lines instead (mesh dash --once for a picture)")
        ctx.invoke(logs.command, services=(), follow=True, tail="10")
        return 0
    return left(watch(project, read_only=read_only))


def watch(
    project: Project,
    *,
    owner: bool = False,
    read_only: bool = False,
    greeting: Callable[[Frame], str] = lambda _: "",
    before: Callable[[], None] = lambda: None,
) -> run.Screen:
    """Show the dashboard until it is left; then the last picture is on the normal screen.

    Args:
        owner: of the mesh itself: whoever leaves is asked whether to stop it.
        before: called when there is something to show, with the terminal still as it was.

    Raises: NotRunning, DeadlineExceeded.
    """
    given, colours = source(project), output.coloured(sys.stdout)
    ui = Ui(read_only=read_only, owner=owner, ascii=not terminal.unicode_able())
    screen = run.show(
        lambda: run.Screen(given, ui, colours=colours, greeting=greeting, before=before)
    )
    killed = screen.signal is not None and screen.signal != signal.SIGINT
    if screen.picture is not None and screen.end != "hung up" and not killed:
        printed(screen.picture)
    return screen


def left(screen: run.Screen) -> int:
    """The exit code. Raises: NotRunning, KeyboardInterrupt; dies of what ended it."""
    if screen.end == "hung up":
        return HUNG_UP
    if screen.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if screen.signal is not None:
        die_of(screen.signal)
    if screen.end == "gone":
        raise NotRunning("the mesh has ended", hint="mesh up -d; its log: mesh logs mesh")
    return 0
