"""`mesh logs`."""

from __future__ import annotations

import heapq
import re
from collections import defaultdict, deque
from time import sleep
from typing import TYPE_CHECKING

import click

from mesh import clock
from mesh.commands import lines, output
from mesh.commands.project import Project, check_names
from mesh.commands.verb import json_option, services_argument, verb
from mesh.configs.locate import NAME
from mesh.errors import ConfigInvalid, WrongUsage
from mesh.orchestrator import logs as log_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mesh.orchestrator.reader import Line

SUPERVISOR = "mesh"
"""The log of the supervisor itself; shown only when it is named."""


def printer(
    names: Sequence[str], *, as_json: bool, timestamps: bool
) -> Callable[[lines.Line], None]:
    """A function that prints one line in the form asked for."""
    width = max((len(name) for name in names), default=0)

    def show(line: lines.Line) -> None:
        if as_json:
            output.json_line(lines.as_json(line))
        else:
            style = output.hue(line.service, names)
            output.out(*lines.as_parts(line, width=width, style=style, timestamps=timestamps))

    return show


def _names(project: Project, asked: Sequence[str]) -> list[str]:
    """Whose logs to read: those asked for, else everybody's that the file or the folder knows."""
    written = sorted(
        found.stem for found in project.logs.glob("*.log") if NAME.fullmatch(found.stem)
    )
    try:
        known = project.programs
    except ConfigInvalid:
        if not written:
            raise
        known = []  # the logs can be read although the file has been broken since
    known = list(dict.fromkeys([*known, *written]))
    check_names(asked, list(dict.fromkeys([*known, SUPERVISOR])))
    return list(dict.fromkeys(asked)) or [name for name in known if name != SUPERVISOR]


def _wanted(
    since: str | None, until: str | None, level: str | None, search: str | None
) -> lines.Wanted:
    now_ms = clock.now_ms()
    try:
        pattern = None if search is None else re.compile(search)
    except re.error as error:
        raise WrongUsage(f"`{search}` is no regular expression: {error}") from None
    return lines.Wanted(
        None if since is None else lines.parse_moment(since, now_ms),
        None if until is None else lines.parse_moment(until, now_ms),
        None if level is None else lines.parse_level(level),
        pattern,
    )


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise WrongUsage(f"-n takes a number or `all`, not `{text}`")
    return int(text)


@verb("mesh logs -f", "mesh logs order product -n 50", "mesh logs --since 10m --level warning")
@services_argument
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--tail", default="all", metavar="N|all", help="Last N lines of each service.")
@click.option("--since", metavar="T", help="Only from then on: 10m, or an RFC 3339 time.")
@click.option("--until", metavar="T", help="Only until then.")
@click.option("-t", "--timestamps", is_flag=True, help="Show each line's time.")
@click.option("--level", metavar="L", help="Only this level and above.")
@click.option("--search", metavar="RE", help="Only lines that match.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    services: tuple[str, ...],
    follow: bool,
    tail: str,
    since: str | None,
    until: str | None,
    timestamps: bool,
    level: str | None,
    search: str | None,
    as_json: bool,
) -> None:
    """Read the programs' logs, merged by time; also when nothing runs.

    The supervisor's own log is read by its name: mesh logs mesh

    They lie in logs/ of the data directory: what is written now in SVC.log, what was cut off in
    SVC.log.OFFSET, and in SVC.idx when the log had grown, for lines that tell no time themselves.
    SVC.log is cut when it has 8 MiB. A log takes 64 MiB at most if its program writes less than
    100 MB/s; the oldest part goes first, and -f says how much was gone before it could be read.
    What a program writes at the very instant of a cut may be lost.
    """
    project = Project.of(ctx)
    wanted, last = _wanted(since, until, level, search), _count(tail)
    names = _names(project, services)
    show = printer(names, as_json=as_json, timestamps=timestamps)
    paths = {name: project.logs / f"{name}.log" for name in names}
    # A filter looks at everything and then keeps the last ones that it lets through.
    read_last = None if wanted.filters else last
    keep_last = last if wanted.filters else None
    follower = log_files.Follower(paths, read_last)
    for line in _last(wanted, follower.so_far(unfinished=not follow), keep_last):
        show(line)
    _tell_missed(follower)
    if not follow:
        if not any(map(log_files.size, paths.values())):
            output.note("nothing has been logged here yet")
        return
    while True:
        if not follower.behind:
            sleep(log_files.FOLLOW_S)
        for line in _last(wanted, follower.read(), None):
            show(line)
        _tell_missed(follower)


def _tell_missed(follower: log_files.Follower) -> None:
    """Say what is missing where a reader was too slow, or the disk was full; it goes on behind."""
    for name, count in follower.missed().items():
        output.note(f"{name}: {count} bytes were rotated away")


def _last(wanted: lines.Wanted, found: Iterable[Line], count: int | None) -> Iterator[lines.Line]:
    """The lines that are wanted, in order; with `count`, the last so many of each program."""
    parsed = (lines.parse(*line) for line in found)
    passing = (line for line in parsed if wanted.takes(line))
    if count is None:
        yield from passing
        return
    kept: defaultdict[str, deque[lines.Line]] = defaultdict(lambda: deque(maxlen=count))
    for line in passing:
        kept[line.service].append(line)
    yield from heapq.merge(*kept.values(), key=lambda line: line.at_ms or 0)
