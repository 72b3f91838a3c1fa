"""`mesh events parked` and `mesh events diverged`: what a person must look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from mesh.commands import output
from mesh.commands.operations import items, members
from mesh.commands.operator import NOT_FOUND, OK, READING_S, Operator
from mesh.commands.project import Project, check_names
from mesh.commands.verb import VerbGroup, json_option, verb
from mesh.errors import (
    Conflict,
    DeadlineExceeded,
    MeshError,
    ServiceUnavailable,
    WrongUsage,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesh.commands.output import Part

ERROR_CELLS_MAX = 60
"""Of an error's text in a list; `show` tells it whole."""

RETRIED_MAX = 1000
"""Events offered again by one command, as many as a service lists."""

Row = dict[str, object]


def _collected(project: Project, page: str, names: tuple[str, ...]) -> Iterator[tuple[str, Row]]:
    """What each running service of the framework answers; those that cannot be asked are named."""
    operator = Operator(project)
    for name, url in operator.services.items():
        if names and name not in names:
            continue
        try:
            answer = operator.ask(name, url, "GET", page, READING_S)
        except (ServiceUnavailable, DeadlineExceeded) as error:
            output.note(("warning:", "warn"), f" {name} is left out: {error}")
            continue
        if answer.status == OK:
            yield name, dict(members(answer.body))
        elif answer.status != NOT_FOUND:
            output.note(("warning:", "warn"), f" {name} is left out: it answers {answer.status}")


def _short(text: object) -> str:
    line = str(text).replace("\n", " ")
    return line if len(line) <= ERROR_CELLS_MAX else line[: ERROR_CELLS_MAX - 1] + "…"


def _one(project: Project, service: str) -> Operator:
    check_names([service], list(project.config.services))
    return Operator(project)


def _rows(project: Project, service: str) -> list[Row]:
    found = Operator(project).told(service, "GET", "/parked")
    return [dict(members(row)) for row in items(found.get("parked"))]


@click.group("parked", cls=VerbGroup)
def command() -> None:
    """Look after events that a service could not apply."""


@verb("mesh events parked ls", "mesh events parked ls --json", name="ls")
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@json_option
@click.pass_context
def _ls(ctx: click.Context, *, services: tuple[str, ...], as_json: bool) -> None:
    """List the parked events of every service, oldest first."""
    project = Project.of(ctx)
    check_names(services, list(project.config.services))
    rows: list[Row] = []
    for name, told in _collected(project, "/parked", services):
        listed = [{"service": name, **members(row)} for row in items(told.get("parked"))]
        rows += listed
        count = told.get("count")
        if isinstance(count, int) and count > len(listed):
            output.note(f"{name} has parked {count} events; the oldest {len(listed)} are shown")
    if as_json:
        output.json_line({"schema": "mesh.parked/1", "parked": rows})
        return
    if not rows:
        output.note("nothing is parked")
        return
    table: list[list[Part]] = [
        [
            str(row["service"]),
            str(row["id"]),
            (f"{row['stream']}#{row['sequence']}", "faint"),
            (str(row["type"]), "cyan"),
            str(row["attempts"]),
            (_short(f"{row['error_class']}: {row['error']}"), "bad"),
        ]
        for row in rows
    ]
    output.table(["SERVICE", "ID", "POSITION", "TYPE", "TRIES", "ERROR"], table)


@verb(
    "mesh events parked show order 0198c2d4-…",
    "mesh events parked show order 0198c2d4-… --json",
    name="show",
)
@click.argument("service")
@click.argument("event_id", metavar="ID")
@json_option
@click.pass_context
def _show(ctx: click.Context, *, service: str, event_id: str, as_json: bool) -> None:
    """Show one parked event whole, and why it was parked."""
    row = _one(Project.of(ctx), service).told(service, "GET", f"/parked?id={_checked(event_id)}")
    if as_json:
        output.json_line({"schema": "mesh.parked-event/1", "service": service, **row})
        return
    for key in (
        *("type", "id", "subject", "time", "handler", "attempts", "parked"),
        *("trace_id", "causationid"),
    ):
        output.out((f"{key:12}", "faint"), str(row.get(key) or "-"))
    output.out(("position    ", "faint"), f"{row['stream']}#{row['sequence']} epoch {row['epoch']}")
    output.out(("error       ", "faint"), (f"{row['error_class']}: {row['error']}", "bad"))
    output.out(("data", "faint"))
    output.block(json.dumps(row.get("data"), indent=2, ensure_ascii=False))
    output.note(("hint:", "cyan"), f" mesh events parked retry {service} {row['id']}")


@verb(
    "mesh events parked retry order 0198c2d4-…",
    "mesh events parked retry order --all",
    name="retry",
)
@click.argument("service")
@click.argument("event_id", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="All of this service, oldest first.")
@json_option
@click.pass_context
def _retry(
    ctx: click.Context, *, service: str, event_id: str | None, everything: bool, as_json: bool
) -> None:
    """Offer parked events to their listener again: once, after its fault is mended.

    What succeeds is parked no more; what fails again stays, and the exit code is 1.
    """
    project = Project.of(ctx)
    operator = _one(project, service)
    if (event_id is None) != everything:
        raise WrongUsage("name one event, or --all", hint=f"mesh events parked ls {service}")
    wanted = (
        [_checked(event_id)] if event_id else [str(row["id"]) for row in _rows(project, service)]
    )
    failed: list[str] = []
    results: list[Row] = []
    for each in wanted[:RETRIED_MAX]:
        try:
            error = operator.told(service, "POST", f"/parked/retry?id={each}")["error"]
        except Conflict as refusal:
            error = f"{refusal}"
        results.append({"id": each, "ok": not error, "error": error or None})
        if error:
            failed.append(f"{each}: {error}")
        elif not as_json:
            output.out(("applied ", "good"), each)
    if as_json:
        output.json_line({"schema": "mesh.retry/1", "service": service, "results": results})
    if not wanted:
        output.note(f"{service} has parked nothing")
    if failed:
        raise MeshError(
            f"{len(failed)} of {len(wanted)} failed again and stay parked",
            code="failed-again",
            evidence=tuple(failed[:20]),
            hint=f"mesh logs {service} -n 30",
        )


@verb(
    "mesh events parked drop order 0198c2d4-…",
    "mesh events parked drop order 0198c2d4-… --yes",
    name="drop",
)
@click.argument("service")
@click.argument("event_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def _drop(ctx: click.Context, *, service: str, event_id: str, yes: bool) -> None:
    """Give up on a parked event: its effect on this service will never happen."""
    operator = _one(Project.of(ctx), service)
    row = operator.told(service, "GET", f"/parked?id={_checked(event_id)}")
    if not yes and not output.is_terminal():
        raise WrongUsage("this cannot be undone, and nobody can be asked here", hint="add --yes")
    question = f"drop {row['type']} {row['stream']}#{row['sequence']} of {service} for good?"
    if not yes and not output.confirm(question):
        output.note("nothing was dropped")
        return
    operator.told(service, "POST", f"/parked/drop?id={_checked(event_id)}")
    output.note(f"dropped {event_id}")


@verb(
    "mesh events diverged",
    "mesh events diverged --resolve order",
    "mesh events diverged --json",
    name="diverged",
)
@click.option("--resolve", metavar="SVC", help="Say that this service has been looked after.")
@json_option
@click.pass_context
def diverged(ctx: click.Context, *, resolve: str | None, as_json: bool) -> None:
    """List effects of events that a restore has taken back.

    They are not undone: a person judges them, puts right what has to be, and says so.
    """
    project = Project.of(ctx)
    if resolve is not None:
        count = _one(project, resolve).told(resolve, "POST", "/diverged/resolve")["resolved"]
        output.note(f"{resolve}: {count} resolved")
        return
    rows = [
        {"service": name, **members(row)}
        for name, told in _collected(project, "/diverged", ())
        for row in items(told.get("diverged"))
    ]
    if as_json:
        output.json_line({"schema": "mesh.diverged/1", "diverged": rows})
        return
    if not rows:
        output.note("nothing has diverged")
        return
    table: list[list[Part]] = [
        [
            str(row["service"]),
            f"{row['stream']}#{row['from_sequence']} to {row['to_sequence']}",
            str(row["from_epoch"]),
            str(row["new_epoch"]),
            str(row["noted"]),
        ]
        for row in rows
    ]
    output.table(["SERVICE", "EVENTS", "OF EPOCH", "REPLACED BY", "NOTED"], table)


def _checked(event_id: str) -> str:
    """An event's id, fit for a query. Raises: WrongUsage."""
    digits = event_id.replace("-", "")
    if len(digits) != 32 or not digits.isalnum() or not digits.isascii():  # noqa: PLR2004  (a UUID)
        raise WrongUsage(f"`{event_id}` is no event's id", hint="mesh events parked ls")
    return event_id


for _command in (_ls, _show, _retry, _drop):
    command.add_command(_command)
