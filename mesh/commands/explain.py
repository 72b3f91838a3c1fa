"""`mesh explain`: why a service is in its state; with an id, what it says of that entity."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from mesh.commands import lines, output, traffic
from mesh.commands.project import Project
from mesh.commands.ps import STYLES
from mesh.commands.verb import json_option, service_argument, verb
from mesh.errors import NotFound, NotRunning
from mesh.orchestrator import ports
from mesh.text import age

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mesh.commands.output import Part

NOTHING_RUNS = 3
LINES_MAX = 10
COMMAND_CHARS_MAX = 80
"""Of another program's command line."""

ENTITY = "explain"
"""The operation by which a service explains one of its entities."""

Told = dict[str, object]


def _span(seconds: object) -> str:
    """`0.3 s`, `12m04s`."""
    minute_s = 60
    if isinstance(seconds, int | float) and seconds < minute_s:
        return f"{seconds:.1f} s"
    return age(seconds)


def _rows(told: Mapping[str, object]) -> list[tuple[str, list[Part]]]:
    """Title and text of every fact that there is, in the order in which one asks."""
    rows: list[tuple[str, list[Part]]] = [
        (
            "waits for",
            [
                f"{other['name']} ({other['condition']}), which is ",
                (str(other["state"]), STYLES.get(other["state"], "faint")),
                f": {other['cause']}",
            ],
        )
        for other in cast("Sequence[Told]", told.get("waits_for") or ())
    ]
    if told.get("next_try_in_s") is not None:
        rows.append(("next try", [f"in {_span(told['next_try_in_s'])}"]))
    if told.get("failures"):
        most = told.get("failures_max")
        bound = f"; {most} mean failed" if most else "; it never gives up"
        rows.append(("failures", [f"{told['failures']} in the last minute{bound}"]))
    if exited := cast("Told | None", told.get("last_exit")):
        text = f"{exited['how']}, {_span(exited['lasted_s'])} after its start, at {exited['at']}"
        rows.append(("last exit", [text]))
    if probe := cast("Told | None", told.get("probe")):
        style: tuple[str, output.Style] = ("good", "good") if probe["ok"] else ("bad", "bad")
        text = f": {probe['answer']}, {_span(probe['ago_s'])} ago"
        row = f", {probe['misses']} in a row" if probe["misses"] else ""
        rows.append(("health", [f"{probe['question']} ", style, text + row]))
    if told.get("pid") is not None:
        text = f"pid {told['pid']}, up {_span(told['uptime_s'])}, {told['restarts']} restarts"
        rows.append(("process", [text]))
    if told.get("port"):
        rows.append(("port", [_port(told)]))
    return rows + traffic.rows(told.get("traffic"))


def _port(told: Mapping[str, object]) -> str:
    holders = cast("Sequence[Told]", told.get("port_holders") or ())
    by = ", ".join(
        "this service"
        if holder["pid"] == told.get("pid")
        else f"pid {holder['pid']} ({str(holder['command'])[:COMMAND_CHARS_MAX]})"
        for holder in holders
    )
    return f"{told['port']}: {f'listened on by {by}' if by else 'nobody listens'}"


def holders(told: Mapping[str, object]) -> list[Told]:
    """Who listens on the port of what is told of."""
    port = told.get("port")
    found = ports.holders(port) if isinstance(port, int) else []
    return [{"pid": pid, "command": command} for pid, command in found]


def facts(told: Mapping[str, object]) -> list[tuple[str, list[Part]]]:
    """Everything that is told of a service's state, its last lines excepted; pure."""
    state = str(told["state"])
    cause = "" if told["cause"] == state else f": {told['cause']}"
    lasting = f" for {_span(told['for_s'])}" if told.get("for_s") is not None else ""
    line: list[Part] = [(state, STYLES.get(state, "faint")), lasting, cause]
    if told.get("desired") == "up" and state in {"stopped", "failed"}:
        line.append(" (it is meant to run)")
    return [("state", line), *_rows(told)]


def _show(told: Mapping[str, object]) -> None:
    (_, state), *rows = facts(told)
    output.out((str(told["name"]), "strong"), " is ", *state)
    for title, parts in rows:
        output.out((f"  {title:<10}", "faint"), *parts)
    said = cast("Sequence[str]", told.get("lines") or ())[-LINES_MAX:]
    if said:
        output.out(("  last lines", "faint"))
    for text in said:
        said_line = lines.parse(str(told["name"]), text, None)
        output.out("    ", *lines.as_parts(said_line, width=0, style="faint", timestamps=False)[1:])


def _hint(told: Mapping[str, object]) -> str:
    name = told["name"]
    waits_for = cast("Sequence[Told]", told.get("waits_for") or ())
    if waits_for:
        return f"mesh explain {waits_for[0]['name']}"
    match told["state"]:
        case "failed" | "stopped":
            return f"mesh start {name}; its log: mesh logs {name}"
        case "ready":
            return f"mesh call {name}; its log: mesh logs {name}"
        case _:
            return f"mesh logs {name} -n 50; again from the beginning: mesh restart {name}"


def _at_rest(project: Project, name: str) -> Told:
    """What can be told while nothing runs."""
    from mesh.orchestrator import logs  # noqa: PLC0415  (a running mesh reads them itself)

    project.check_services([name])
    service = project.config.services.get(name)
    log = project.logs / f"{name}.log"
    return {
        "schema": "mesh.explain/1",
        "name": name,
        "state": "stopped",
        "desired": "down",
        "cause": "no mesh runs here",
        "port": (service.port or None) if service is not None else None,
        "log": str(log),
        "lines": logs.last_lines(log, LINES_MAX),
    }


def _entity(ctx: click.Context, project: Project, service: str, entity: str, as_json: bool) -> int:  # noqa: FBT001  (handed on as it came)
    """Ask the service itself, as `mesh call SERVICE explain id=… --as operator` does."""
    from mesh.commands import call  # noqa: PLC0415  (only for those who ask a service)
    from mesh.commands.caller import OPERATOR  # noqa: PLC0415  (likewise)
    from mesh.commands.entity import show  # noqa: PLC0415  (likewise)
    from mesh.commands.peers import Peers  # noqa: PLC0415  (likewise)

    document = Peers(project, call.TIMEOUT_S).document(service)
    operation = document.operations.get(ENTITY)
    if operation is None:
        raise NotFound(
            f"{service} has no operation `{ENTITY}`, so it cannot tell of {entity}",
            code="unknown-operation",
            hint=f"mesh call {service} lists what it has; mesh explain {service} tells of itself",
        )
    words = (service, ENTITY, f"id={entity}")
    name = OPERATOR if operation.access.operator else None
    found: object = ctx.invoke(call.command, words=words, name=name, as_json=as_json, show=show)
    return found if isinstance(found, int) else 0


@verb("mesh explain order", "mesh explain order --json", "mesh explain order ord_…")
@service_argument
@click.argument("entity", required=False, metavar="[ID]")
@json_option
@click.pass_context
def command(ctx: click.Context, *, service: str, entity: str | None, as_json: bool) -> int:
    """Say why a service is in its state.

    What it waits for, the last answer to its health question, its last exit and last lines, who
    listens on its port, how it asks others and whom it lets in. With an ID the service itself tells
    of that entity.
    """
    project = Project.of(ctx)
    project.check_services([service])
    if entity is not None:
        return _entity(ctx, project, service, entity, as_json)
    nothing = None
    try:
        told: Told = dict(project.remote().explain(service))
    except NotRunning as error:
        told, nothing = _at_rest(project, service), error
    if told.get("pid") is not None:
        told["traffic"] = traffic.told(project, service)
    told["port_holders"] = holders(told)
    if as_json:
        output.json_line(told)
    else:
        _show(told)
        hint = nothing.hint if nothing is not None else _hint(told)
        output.note(("hint:", "cyan"), f" {hint}")
    return NOTHING_RUNS if nothing is not None else 0
