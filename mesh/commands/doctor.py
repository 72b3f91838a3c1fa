"""`mesh doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from mesh.commands import checkup, output
from mesh.commands.checkup import Finding
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb
from mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable


class Check(NamedTuple):
    """One question to this machine."""

    name: str
    ask: Callable[[Project], Finding]


CHECKS = (
    Check("python", checkup.python),
    Check("sqlite", checkup.sqlite),
    Check("ports", checkup.ports),
    Check("sockets", checkup.sockets),
    Check("sandbox", checkup.sandbox),
    Check("configuration", checkup.configuration),
)


def _asked(check: Check, project: Project) -> Finding:
    try:
        return check.ask(project)
    except MeshError as error:
        return Finding("fail", "; ".join((error.detail, *error.evidence)), error.hint)


@verb("mesh doctor", "mesh doctor --json", "mesh -f configs/minimal.yaml doctor")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> int:
    """Check whether this machine can run the mesh.

    Nothing is changed. Exit code 1 if a check fails.
    """
    project = Project.of(ctx)
    found = [(check.name, _asked(check, project)) for check in CHECKS]
    ok = all(finding.status != "fail" for _, finding in found)
    if as_json:
        rows = [{"name": name, **finding._asdict()} for name, finding in found]
        output.json_line({"schema": "mesh.doctor/1", "ok": ok, "checks": rows})
        return 0 if ok else 1
    for name, finding in found:
        style: output.Style = {"pass": "good", "warn": "warn", "fail": "bad"}[finding.status]  # type: ignore[assignment]  # values are styles
        output.out((f"{finding.status:<5}", style), f" {name:<14} {finding.detail}")
        if finding.fix:
            output.out(" " * 21, ("fix: ", "cyan"), finding.fix)
    return 0 if ok else 1
