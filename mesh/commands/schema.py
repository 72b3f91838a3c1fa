"""`mesh schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mesh
from mesh.commands import completing, output
from mesh.commands.project import Project, check_names
from mesh.commands.verb import VerbGroup, json_option, verb
from mesh.errors import AssertionFailed, InvalidInput, NotRunning

if TYPE_CHECKING:
    from collections.abc import Sequence

ASK_S = 5.0
"""For a running program to serve its document."""

FILE_BYTES_MAX = 16 * 1024 * 1024
"""Largest document that is compared: it is read at once."""

OK = 200
FAILED = 7

_service = click.argument(
    "service", metavar="[SVC]", required=False, shell_complete=completing.services
)


@click.group("schema", cls=VerbGroup)
def command() -> None:
    """Print the documents of services, and find what in them breaks others.

    They are made from the services' tables; nothing needs to run.
    """


def _document(project: Project, kind: str, name: str) -> object:
    """One service's, from its table; a program's of any language is asked for where it runs."""
    from mesh.commands import tables  # noqa: PLC0415  (imports what services stand on)
    from mesh.framework import asyncapi, openapi  # noqa: PLC0415  (likewise)

    if project.config.services[name].module:
        written = openapi.document if kind == "openapi" else asyncapi.document
        return written(tables.table(project, name), mesh.__version__)
    return _served(project, kind, name)


def _served(project: Project, kind: str, name: str) -> object:
    from mesh.commands.peers import Peers  # noqa: PLC0415  (only for these)

    hint = f"mesh up -d {name}"
    if name not in project.running().services:
        raise NotRunning(f"{name} has no table; it serves its document while it runs", hint=hint)
    answer = Peers(project, ASK_S).ask(name, "GET", f"/{kind}.json", headers={})
    if answer.status != OK or not isinstance(answer.body, dict):
        raise InvalidInput(f"{name} serves no /{kind}.json (status {answer.status})")
    return answer.body


def _show(project: Project, kind: str, name: str | None, *, as_json: bool) -> None:
    """One document, or those of all services with a table by name."""
    services = project.config.services
    if name is not None:
        check_names([name], list(services))
        found = _document(project, kind, name)
    else:
        found = {
            each: _document(project, kind, each)
            for each, service in services.items()
            if service.module
        }
    (output.json_line if as_json else output.json_block)(found)


@verb("mesh schema openapi order", "mesh schema openapi --json", name="openapi")
@_service
@json_option
@click.pass_context
def _openapi(ctx: click.Context, *, service: str | None, as_json: bool) -> None:
    """Print the OpenAPI document of a service, or of all by name."""
    _show(Project.of(ctx), "openapi", service, as_json=as_json)


@verb("mesh schema asyncapi order", "mesh schema asyncapi --json", name="asyncapi")
@_service
@json_option
@click.pass_context
def _asyncapi(ctx: click.Context, *, service: str | None, as_json: bool) -> None:
    """Print the AsyncAPI document of a service, or of all by name."""
    _show(Project.of(ctx), "asyncapi", service, as_json=as_json)


@verb(
    "mesh schema config > mesh.schema.json",
    "mesh schema config --json",
    name="config",
)
@json_option
def _config(*, as_json: bool) -> None:
    """Print the JSON Schema of mesh.yaml, for editors.

    An editor that speaks to yaml-language-server reads it where the file begins with
    `# yaml-language-server: $schema=mesh.schema.json`.
    """
    from mesh.configs import reader  # noqa: PLC0415  (what `--help` can do without)

    (output.json_line if as_json else output.json_block)(reader.schema())


@verb("mesh schema check", "mesh schema check --json", name="check")
@json_option
@click.pass_context
def _check(ctx: click.Context, *, as_json: bool) -> int:
    """Check that services agree: what each asks and hears is what its owner answers and tells.

    Exit code 7 if they do not.
    """
    from mesh.commands import tables  # noqa: PLC0415  (imports what services stand on)
    from mesh.framework.agreement import disagreements  # noqa: PLC0415  (likewise)

    shop = tables.shop(Project.of(ctx))
    found = disagreements(shop)
    if as_json:
        output.json_line({"schema": "mesh.schema.check/1", "ok": not found, "disagreements": found})
        return FAILED if found else 0
    if found:
        raise AssertionFailed("the services do not agree", evidence=tuple(found))
    for name in shop.tables:
        asks, hears = shop.asks(name), shop.listeners(name)
        output.out(("pass", "good"), f"  {name}: asks {len(asks)}, hears {len(hears)}")
    return 0


@verb(
    "mesh schema diff order-1.json order-2.json",
    "mesh schema diff order-1.json   # with what order is now",
    name="diff",
)
@click.argument("old", type=click.Path(path_type=Path), metavar="OLD")
@click.argument("new", type=click.Path(path_type=Path), metavar="[NEW]", required=False)
@json_option
@click.pass_context
def _diff(ctx: click.Context, *, old: Path, new: Path | None, as_json: bool) -> int:
    """Say what of an older OpenAPI or AsyncAPI document a newer one breaks.

    Without NEW, OLD is compared with what the service of its title is now. Exit code 7 if
    something breaks: a caller of OLD would be refused, or would miss what it reads.
    """
    from mesh.framework.compatibility import breaks  # noqa: PLC0415  (what `--help` can do without)

    before = _read(old)
    after = _read(new) if new is not None else _now(Project.of(ctx), before)
    found = breaks(before, after)
    if as_json:
        output.json_line({"schema": "mesh.schema.diff/1", "ok": not found, "breaks": found})
    else:
        _tell(found)
    return FAILED if found else 0


def _tell(found: Sequence[str]) -> None:
    for line in found:
        output.out(("breaks", "bad"), f"  {line}")
    if not found:
        output.note("nothing breaks")


def _now(project: Project, before: object) -> object:
    info = before.get("info") if isinstance(before, dict) else None
    name = str(info.get("title")) if isinstance(info, dict) else ""
    check_names([name], list(project.config.services))
    kind = "asyncapi" if isinstance(before, dict) and "asyncapi" in before else "openapi"
    return _document(project, kind, name)


def _read(file: Path) -> object:
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"{file}: {(error.strerror or 'cannot be read').lower()}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise InvalidInput(f"{file}: larger than {FILE_BYTES_MAX} bytes")
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file}: not JSON: {error}") from None
    return found


for _member in (_openapi, _asyncapi, _config, _check, _diff):
    command.add_command(_member)
