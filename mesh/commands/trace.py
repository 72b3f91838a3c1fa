"""`mesh trace`: one story as a waterfall, or which stories there were."""

from __future__ import annotations

import shutil
from time import sleep
from typing import TYPE_CHECKING

import click

from mesh import clock
from mesh.commands import lines, output
from mesh.commands.befell import befell
from mesh.commands.project import Project
from mesh.commands.verb import Whole, json_option, verb
from mesh.dashboard import timeline
from mesh.errors import NotFound, WrongUsage
from mesh.orchestrator import state
from mesh.tracing.stories import Stories
from mesh.tracing.tail import SELF, Tail
from mesh.tracing.waterfall import Waterfall, waterfall

if TYPE_CHECKING:
    from mesh.tracing.span import Span
    from mesh.tracing.stories import Summary
    from mesh.tracing.waterfall import Row

STORIES_MAX = 20_000
"""More than the files of four services hold."""

LISTED = 20

END = 512 * 1024
"""Bytes of each file that are read for the latest stories; a hundred orders."""

QUIET_S = 0.25
"""A story that nothing was added to for so long, and for as long as it took until then, is complete:
spans are on file within 0.1 s, and on a busy machine everything takes longer."""

FRESH_S = 3.0
"""A story that ended longer ago is not waited for."""

WAIT_S = 2.5
"""At most, for a story that goes on and on."""

LOOK_S = 0.05

US_PER_MS, US_PER_S = 1_000, 1_000_000

PIPED_CELLS = 121
"""The width where there is no terminal: no name of the shop is cut."""

ID_SHOWN = 12
"""Digits of an id in a list: enough to tell twenty thousand apart."""


class Told:
    """The stories of one project, read from its files."""

    def __init__(
        self, project: Project, *, last_bytes: int | None = None, prefix: str = ""
    ) -> None:
        """Read what is there: all of it, the end of each file, or the stories of a prefix."""
        self.project = project
        self.stories = Stories(stories_max=STORIES_MAX)
        self._tail = Tail(project.data, last_bytes=last_bytes, prefix=prefix)
        self.stories.take(self._tail.everything())

    def last(self) -> str:
        """The story of the last `mesh call`, else the latest. Raises: NotFound."""
        found = self.stories.summaries()
        if not found:
            raise NotFound(
                "no story is recorded here", code="no-trace", hint="mesh call order create"
            )
        return next((each for each in found if each.service == SELF), found[0]).trace_id

    def named(self, prefix: str) -> str:
        """The one story whose id begins so. Raises: NotFound, WrongUsage."""
        found = self.stories.named(prefix.lower())
        if not found:
            raise NotFound(
                f"no story {prefix!r} is recorded here", code="no-trace", hint="mesh trace"
            )
        if len(found) > 1:
            raise WrongUsage(
                f"{len(found)} ids begin with {prefix!r}", hint=f"mesh trace {found[0]}"
            )
        return found[0]

    def complete(self, trace_id: str) -> list[Span]:
        """Its spans; those of a running mesh that has only just told it are waited for."""
        spans = self.stories.spans(trace_id)
        if state.running(self.project.data) is None:
            return spans
        begun_s = quiet_s = clock.monotonic_s()
        while (now_s := clock.monotonic_s()) < begun_s + WAIT_S:
            ended_us = max(span.end_us for span in spans)
            took_s = (ended_us - spans[0].start_us) / US_PER_S
            fresh = clock.now_ms() - ended_us // US_PER_MS < FRESH_S * clock.MS_PER_S
            if not fresh or now_s > quiet_s + max(QUIET_S, took_s):
                break
            sleep(LOOK_S)
            self.stories.take(self._tail.read())
            found = self.stories.spans(trace_id)
            if len(found) > len(spans):
                quiet_s = clock.monotonic_s()
            spans = found
        return spans


def story(fall: Waterfall) -> dict[str, object]:
    """`mesh.trace/1`; milliseconds from the story's beginning."""
    return {
        "schema": "mesh.trace/1",
        "trace_id": fall.trace_id,
        "started_at": clock.iso(fall.start_us // US_PER_MS),
        "duration_ms": fall.length_us / US_PER_MS,
        "spans": [_span(row, fall.start_us) for row in fall.rows],
        "incidents": [
            {"at_ms": each.at_us / US_PER_MS, "program": each.program, "what": each.what}
            for each in fall.incidents
        ],
    }


def _span(row: Row, start_us: int) -> dict[str, object]:
    span = row.span
    unfinished = span.duration_us < 0
    status = span.status if unfinished else "error" if span.status else "ok"
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id or None,
        "service": span.service,
        "kind": span.kind,
        "name": span.name,
        "start_ms": (span.start_us - start_us) / US_PER_MS,
        "duration_ms": None if unfinished else span.duration_us / US_PER_MS,
        "status": status,
        "error": None if unfinished else span.status or None,
        "attempt": row.attempt,
        "critical": row.critical,
        "attributes": span.attributes,
    }


def show(fall: Waterfall, spans: list[Span]) -> None:
    """The picture."""
    width = shutil.get_terminal_size((PIPED_CELLS, 24)).columns - 1
    marks = timeline.UNICODE if output.unicode_able() else timeline.ASCII
    output.out(
        ("trace ", "faint"),
        (fall.trace_id, "strong"),
        f"  {len(spans)} spans  {timeline.duration(fall.length_us)}  ",
        (clock.iso(fall.start_us // US_PER_MS), "faint"),
    )
    for line in timeline.lines(fall, width=width, marks=marks):
        output.out(*line)


def _listed(found: list[Summary]) -> None:
    head = ("TRACE", "BEGAN", "TOOK", "IN ALL", "SPANS", "TRIES", "SERVICES", "WHAT", "FAILED")
    output.table(
        head,
        [
            [
                row.trace_id[:ID_SHOWN],
                clock.iso(row.start_us // US_PER_MS)[11:],
                timeline.duration(row.duration_us),
                timeline.duration(row.whole_us),
                str(row.spans),
                f"+{row.retries}" if row.retries else "-",
                " ".join(row.services),
                row.root,
                (row.error or "-", "bad" if row.error else "faint"),
            ]
            for row in found
        ],
    )


def _summary(row: Summary) -> dict[str, object]:
    return {
        "trace_id": row.trace_id,
        "root": row.root,
        "service": row.service,
        "services": row.services,
        "started_at": clock.iso(row.start_us // US_PER_MS),
        "duration_ms": row.duration_us / US_PER_MS,
        "whole_ms": row.whole_us / US_PER_MS,
        "spans": row.spans,
        "retries": row.retries,
        "error": row.error or None,
    }


@verb(
    "mesh call order create && mesh trace --last",
    "mesh trace 4bf92f35                    by the first digits of its id",
    "mesh trace --errors --since 10m",
    "mesh trace --slowest -n 5 --service order",
)
@click.argument("trace_id", metavar="[ID]", required=False)
@click.option("--last", is_flag=True, help="The story of the last `mesh call`, else the latest.")
@click.option("--slowest", is_flag=True, help="List those that took longest.")
@click.option("--errors", is_flag=True, help="List those in which something failed.")
@click.option(
    "-n",
    "count",
    type=Whole(1, STORIES_MAX),
    default=LISTED,
    metavar="N",
    help=f"List so many ({LISTED}).",
)
@click.option("--service", metavar="SVC", help="List those in which this service took part.")
@click.option("--since", metavar="T", help="List those that began since: 10m, 1h30m or a time.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    trace_id: str | None,
    last: bool,
    slowest: bool,
    errors: bool,
    count: int,
    service: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """Show one story as a waterfall, or list the latest ones.

    A story is everything that one call has led to: requests, commits, events, deferred work. It
    is read from files, so this works when nothing runs, too.
    """
    if trace_id is not None and last:
        raise WrongUsage("either an id or --last", hint="mesh trace --last")
    project = Project.of(ctx)
    since_us = 0
    if since is not None:
        since_us = lines.parse_moment(since, clock.now_ms()) * US_PER_MS
    if trace_id is not None or last:
        told = Told(project, prefix=trace_id.lower()) if trace_id else Told(project, last_bytes=END)
        spans = told.complete(told.last() if trace_id is None else told.named(trace_id))
        fall = waterfall(spans, befell(project.logs))
        if as_json:
            output.json_line(story(fall))
        else:
            show(fall, spans)
        return

    def wanted(row: Summary) -> bool:
        return (
            row.start_us >= since_us
            and (service is None or service in row.services)
            and (bool(row.error) or not errors)
        )

    plain = not (slowest or errors or service or since)
    found = Told(project, last_bytes=END).stories.summaries() if plain else []
    if len(found) <= count:  # the earliest there may have lost its beginning
        found = [row for row in Told(project).stories.summaries() if wanted(row)]
    if slowest:
        found.sort(key=lambda row: -row.duration_us)
    if as_json:
        rows = [_summary(row) for row in found[:count]]
        output.json_line({"schema": "mesh.traces/1", "traces": rows})
    elif found:
        _listed(found[:count])
    else:
        output.note("no such story is recorded here")
        output.note(("hint:", "cyan"), " mesh call order create")
