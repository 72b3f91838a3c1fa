"""`mesh call`: any operation of any running service, by name."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import click

from mesh import clock
from mesh.commands import completing, describe, output
from mesh.commands.caller import Speakers, seeded_users
from mesh.commands.data import given
from mesh.commands.peers import FAILED_FROM, Peers
from mesh.commands.project import Project, check_names
from mesh.commands.request import build
from mesh.commands.step import first_step
from mesh.commands.verb import Seconds, json_option, verb
from mesh.errors import NotFound, NotRunning, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mesh.commands.http import Answer
    from mesh.commands.operations import Document, Operation
    from mesh.commands.request import Request

TIMEOUT_S = 10.0
"""Default for a whole call: longer than any operation's own deadline, so its answer is seen."""

SHOWN_CHARS_MAX = 400
"""Of an example that is sent, as stderr shows it."""

_HEADER = re.compile(r"([A-Za-z0-9-]+):\s*([\x20-\x7e]*)")


def _find(peers: Peers, service: str) -> str:
    """The service that is meant; also when nothing runs a misspelt one is told as such."""
    try:
        urls = peers.urls
    except NotRunning:
        check_names([service], peers.project.programs)
        raise
    if service not in urls:
        check_names(
            [service], [str(row["name"]) for row in peers.project.remote().status()["services"]]
        )
        raise NotFound(f"{service} serves no HTTP", code="no-operations", hint="mesh call")
    return service


def _operation(document: Document, name: str) -> Operation:
    operations = document.operations
    check_names([name], list(operations), what="operation")
    return operations[name]


def _headers(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        match = _HEADER.fullmatch(text)
        if match is None:
            raise WrongUsage(f"`{text}` is no header", hint="for example: -H 'If-Match: \"3\"'")
        found[match.group(1)] = match.group(2)
    return found


def _tell_sent(request: Request, said: str) -> None:
    """What is about to be asked, on stderr. Bodies typed here may hold secrets; examples none."""
    line = f"{request.method} {request.target}"
    if request.from_example and request.body is not None:
        shown = json.dumps(request.body, ensure_ascii=False)
        cut = shown[: SHOWN_CHARS_MAX - 1] + "…" if len(shown) > SHOWN_CHARS_MAX else shown
        line += f" with the documented example {cut}"
    output.note((f"as {said}: " if said else "", "faint"), (line, "faint"))


def _show(
    answer: Answer,
    request: Request,
    trace_id: str,
    *,
    with_head: bool,
    show: Callable[[dict[str, object]], None] | None,
) -> None:
    """The answer for a person."""
    failed = answer.status >= FAILED_FROM
    if with_head:
        output.out(f"HTTP {answer.status}")
        for name, value in answer.headers.items():
            output.out(f"{name}: {value}")
        output.out(f"trace: {trace_id}")
        output.out("")
    if isinstance(answer.body, str):
        output.block(answer.body)
    elif isinstance(answer.body, dict) and show is not None and not failed:
        show(answer.body)
    elif answer.body is not None:
        output.json_block(answer.body)
    output.note(
        f"{request.method} {request.target} -> ",
        (str(answer.status), "bad" if failed else "good"),
        f" in {answer.duration_ms:.0f} ms",
    )


@verb(
    "mesh call                                          the services",
    "mesh call order                                    its operations",
    "mesh call order create --help                      its fields and example",
    "mesh call order create                             send the example",
    "mesh call product restock id=prd_… delta=5 reason=delivery --as sam",
    "mesh call order create -d @order.json --json",
    own_help=True,
)
@click.argument(
    "words",
    nargs=-1,
    metavar="[SVC [OPERATION [FIELD=VALUE|FIELD:=JSON]...]]",
    shell_complete=completing.call,
)
@click.option("-d", "--data", metavar="JSON|@FILE", help="The body; fields are laid over it.")
@click.option("--as", "name", metavar="USER", help="Who calls: a login, a service or `operator`.")
@click.option("-H", "--header", "header", multiple=True, metavar="K:V", help="Send this header.")
@click.option("--idempotency-key", metavar="K", help="Send this key instead of a fresh one.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0.001, 3600),
    default=TIMEOUT_S,
    metavar="S",
    help="Seconds to wait for the answer (10).",
)
@click.option("-i", "--include", is_flag=True, help="Show status, headers and trace id too.")
@json_option
@click.option("-h", "--help", "wants_help", is_flag=True, help="Show this, or what is named.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    words: tuple[str, ...],
    data: str | None,
    name: str | None,
    header: tuple[str, ...],
    idempotency_key: str | None,
    timeout_s: float,
    include: bool,
    as_json: bool,
    wants_help: bool,
    show: Callable[[dict[str, object]], None] | None = None,
) -> int:
    """Call an operation of a service.

    Everything is read from the OpenAPI document of the running service. With no field at all the
    documented example is sent. Without --as, the first seeded user who may call does.
    """
    project = Project.of(ctx)
    peers = Peers(project, timeout_s)
    if not words:
        if wants_help:
            output.block(ctx.get_help())
            return 0
        states = {
            str(row["name"]): str(row["state"]) for row in project.remote().status()["services"]
        }
        describe.services(states, peers.urls, as_json=as_json)
        return 0
    service, *rest = words
    document = peers.document(_find(peers, service))
    if not rest:
        describe.operations(service, document, as_json=as_json)
        return 0
    operation = _operation(document, rest[0])
    if wants_help:
        describe.operation(service, document, operation)
        return 0
    request = build(document, operation, rest[1:], None if data is None else given(data))
    headers = _headers(header)
    said = ""
    if "Authorization" not in headers:
        seed = project.data / "run" / "seed"
        speakers = Speakers(
            project.remote().token, peers.document, peers.urls, seeded_users(seed), timeout_s
        )
        speaker = speakers.choose(service, operation, name, request.target)
        said = speaker.said
        if speaker.bearer:
            headers["Authorization"] = f"Bearer {speaker.bearer}"
    if operation.takes_key:
        headers.setdefault("Idempotency-Key", idempotency_key or clock.random_hex(16))
    if operation.needs_match:
        headers.setdefault("If-Match", "*")
    headers.setdefault("Mesh-Timeout", str(round(timeout_s * clock.MS_PER_S)))
    _tell_sent(request, said)
    answer, trace_id = first_step(peers, service, operation.name, request, headers)
    if as_json:
        output.json_line(
            {
                "schema": "mesh.call/1",
                "service": service,
                "operation": operation.name,
                "status": answer.status,
                "duration_ms": round(answer.duration_ms, 3),
                "trace_id": trace_id,
                "headers": answer.headers,
                "body": answer.body,
            }
        )
    else:
        _show(answer, request, trace_id, with_head=include, show=show)
    return 1 if answer.status >= FAILED_FROM else 0
